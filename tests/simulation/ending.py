"""The end of a history: all is well for a while, and then every task is accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from http import HTTPStatus

from poussetaches.core.moment import HOUR
from poussetaches.store import verify_store
from poussetaches.store.folder import DataFolder
from tests.integration.asgi import Answered
from tests.simulation.callers import QUEUES, RATED, SCHEDULES, Callers
from tests.simulation.ledger import SERVER
from tests.simulation.server import Server
from tests.simulation.world import World

LONGEST_CALM = 6 * 3600.0  # seconds in which everything that is due must have come to its end
MAINTENANCE = 65.0  # seconds; it has had a turn then
NO_LIMITS = {"rate": None, "concurrency": None, "origin_concurrency": None}


async def calm_down(world: World, callers: Callers) -> None:
    """Let everything be well, and give what is due the time that it needs."""
    world.note("calm")
    world.machine.disk.heal()
    world.network.moods.clear()
    world.network.have_enough()
    for path in (*(f"/v1/schedules/{name}" for name in SCHEDULES), "/cron"):
        await _insist(partial(world.ask, "DELETE", path, None))
    for name in (SERVER, *QUEUES):
        await _insist(partial(callers.resume_one, name))
    world.ledger.rated.is_limited = False
    for queue in (*QUEUES, RATED):
        await _insist(partial(world.ask, "PATCH", f"/v1/queues/{queue}", NO_LIMITS))
    ends_at = world.clock.monotonic() + LONGEST_CALM
    while world.clock.monotonic() < ends_at and _is_at_work(world):
        await asyncio.sleep(15)
        world.loop.turns = 0
    await asyncio.sleep(MAINTENANCE)


def _is_at_work(world: World) -> bool:
    """Tell whether there is something to wait for; a clock set back may have put it off."""
    return bool(world.ledger.on_wire or _due_within(world, HOUR))


async def _insist(ask: Callable[[], Awaitable[Answered]]) -> None:
    """Ask until there is an answer: the store may still be getting out of trouble."""
    while (await ask()).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        await asyncio.sleep(1)


def check(world: World) -> None:
    """Fail the history for what is not as it should be."""
    server, ledger = world.server, world.ledger
    rows = server.rows()
    pruned = ledger.gone(rows)
    world.seen["task pruned"] += pruned
    # A commit that failed and lasted has pruned what was not counted.
    if pruned < server.pruned or (pruned > server.pruned and not world.has_lasted):
        world.fail(f"{pruned} ended tasks have gone, and {server.pruned} were pruned")
    for task_id in ledger.on_wire:
        if ledger.entries[task_id].gone_at is None:
            world.fail(f"task {task_id} is still on the wire when all is well")
    ledger.compare(rows)
    ledger.check_refusals(server.pushes())
    for row in ledger.late(rows):
        if row.id not in world.poison.left:  # such a row cannot be corrected, either
            world.fail(f"waits for a moment that nobody asked for: {row}")
    for late in _due_within(world, 0):
        world.fail(f"still waits when all is well: {late}; held {server.engine.held()}")
    for problem in (*_problems(world, server), *world.poison.problems(server.look)):
        world.fail(problem)


def _due_within(world: World, span: int) -> list[tuple[object, ...]]:
    now = world.clock.now()
    rows = world.server.look(
        f"SELECT id, queue, url, {now} - run_at, attempt_count, forced FROM tasks"
        f" WHERE state = 'waiting' AND run_at <= {now + span}"
    )
    return [row for row in rows if row[0] not in world.poison.left][:3]


def check_folder(world: World) -> None:
    """Fail the history for what is wrong in the folder that a stopped server left."""
    report = verify_store(DataFolder(world.machine.path.parent), _show_nothing)
    for found in report.problems:
        if found.what.startswith(("rows could not be read, and were set", "rows cannot be read")):
            continue  # the ledger knows which rows these are
        world.fail(f"wrong in the folder: {found.what} {found.examples}")


def _show_nothing(what: str, done: int, total: int | None) -> None:
    """Take no note of how far it has come."""


def _problems(world: World, server: Server) -> Iterator[str]:
    """Compare the attempts on record with those that receivers saw."""
    for request_id, status, error, task_id in server.look(
        "SELECT a.request_id, a.status, a.error, t.id FROM attempts AS a"
        " JOIN tasks AS t ON t.seq = a.task"
    ):
        yield from _attempt_problems(world, str(request_id), status, error, str(task_id))


def _attempt_problems(
    world: World, request_id: str, status: object, error: object, task_id: str
) -> Iterator[str]:
    sent = world.ledger.sent.get(request_id)
    if sent is None:
        if status is not None or not world.network.any_was_charged(world.hold_for):
            yield f"attempt {request_id} of task {task_id} is on record, and was never made"
    elif sent.task_id != task_id:
        yield f"attempt {request_id} is on record for task {task_id}, and was of {sent.task_id}"
    elif sent.costs_nothing:
        yield f"attempt {request_id} of task {task_id} is on record, and could not be made"
    elif sent.outcome is not None and (sent.outcome.status, sent.outcome.error) != (status, error):
        yield f"attempt {request_id} is on record as {status} {error}, and was {sent.outcome}"
