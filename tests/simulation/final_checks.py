"""The end of a history: without further faults, every task must reach its end."""

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

LONGEST_DRAIN = 6 * 3600.0  # seconds in which every due task must end
MAINTENANCE = 65.0  # seconds in which it runs at least once
NO_LIMITS = {"rate": None, "concurrency": None, "origin_concurrency": None}


async def recover_and_drain(world: World, callers: Callers) -> None:
    """End all faults and pauses, delete schedules, and wait until no task is due."""
    world.note("recovery")
    world.machine.disk.repair()
    world.network.behaviours.clear()
    world.network.end_shortage()
    for path in (*(f"/v1/schedules/{name}" for name in SCHEDULES), "/cron"):
        await _retry_until_available(partial(world.request, "DELETE", path, None))
    for name in (SERVER, *QUEUES):
        await _retry_until_available(partial(callers.resume_one, name))
    world.ledger.rated.is_limited = False
    for queue in (*QUEUES, RATED):
        await _retry_until_available(
            partial(world.request, "PATCH", f"/v1/queues/{queue}", NO_LIMITS)
        )
    ends_at = world.clock.monotonic() + LONGEST_DRAIN
    while world.clock.monotonic() < ends_at and _has_pending_work(world):
        await asyncio.sleep(15)
        world.loop.turns = 0
    await asyncio.sleep(MAINTENANCE)


def _has_pending_work(world: World) -> bool:
    """Return whether tasks are in flight or due within an hour, as after a clock set back."""
    return bool(world.ledger.in_flight or _due_within(world, HOUR))


async def _retry_until_available(ask: Callable[[], Awaitable[Answered]]) -> None:
    """Repeat a request while the store recovers."""
    while (await ask()).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        await asyncio.sleep(1)


def check(world: World) -> None:
    """Fail the history if a task, a count or an attempt is wrong."""
    server, ledger = world.server, world.ledger
    rows = server.rows()
    pruned = ledger.count_pruned(rows)
    world.seen["task pruned"] += pruned
    # Tasks pruned by a commit that failed, but was stored, are not counted.
    if pruned < server.pruned or (pruned > server.pruned and not world.has_stored_failed_commit):
        world.fail(f"{pruned} ended tasks are missing, but {server.pruned} were pruned")
    for task_id in ledger.in_flight:
        if ledger.entries[task_id].deleted_at is None:
            world.fail(f"task {task_id} is still in flight after the recovery")
    ledger.compare(rows)
    ledger.check_refusals(server.pushes())
    for row in ledger.unexpectedly_delayed(rows):
        if row.id not in world.poison.unchanged:  # such a row cannot be corrected
            world.fail(f"waits without a delay: {row}")
    for task in _due_within(world, 0):
        world.fail(f"still waits after the recovery: {task}; held {server.engine.held()}")
    for problem in (*_problems(world, server), *world.poison.problems(server.query)):
        world.fail(problem)


def _due_within(world: World, span: int) -> list[tuple[object, ...]]:
    now = world.clock.now()
    rows = world.server.query(
        f"SELECT id, queue, url, {now} - run_at, attempt_count, forced FROM tasks"
        f" WHERE state = 'waiting' AND run_at <= {now + span}"
    )
    return [row for row in rows if row[0] not in world.poison.unchanged][:3]


def check_folder(world: World) -> None:
    """Fail the history if ``verify`` finds a problem in the folder of a stopped server."""
    report = verify_store(DataFolder(world.machine.path.parent), _show_nothing)
    for found in report.problems:
        if found.what.startswith(("rows could not be read, and were set", "rows cannot be read")):
            continue  # the ledger knows which rows these are
        world.fail(f"problem in the folder: {found.what} {found.examples}")


def _show_nothing(what: str, done: int, total: int | None) -> None:
    """Ignore the progress."""


def _problems(world: World, server: Server) -> Iterator[str]:
    """Compare the recorded attempts with the attempts that receivers got."""
    for request_id, status, error, task_id in server.query(
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
            yield f"attempt {request_id} of task {task_id} is recorded, but was never made"
    elif sent.task_id != task_id:
        yield f"attempt {request_id} is recorded for task {task_id}, but was of {sent.task_id}"
    elif sent.costs_nothing:
        yield f"attempt {request_id} of task {task_id} is recorded, but could not be made"
    elif sent.outcome is not None and (sent.outcome.status, sent.outcome.error) != (status, error):
        yield f"attempt {request_id} is recorded as {status} {error}, but was {sent.outcome}"
