"""Responses of the API while the store is full or broken, and while the server stops."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
from starlette.types import Message

from poussetaches.api.original_routes import PAGE
from poussetaches.core.errors import StoreUnavailable
from poussetaches.store.runner import InlineRunner
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.integration.asgi import Answered, request, request_in_pieces
from tests.integration.service import Service
from tests.store.sqlite_files import BROKEN, FULL, Disk, raw

R = TypeVar("R")

ORIGIN = "http://app.test:80"
URL = "http://app.test/run"
CHAT = "http://chat.test/hook"
TASK = {"url": URL}
PUSH = {"url": URL, "payload": "e30="}
LARGE = base64.b64encode(b"x" * 1_000_000).decode()
HOURLY = {"cron": "@hourly", "task": TASK}


@pytest.fixture
async def service(
    tmp_path: Path, clock: FakeClock, sender: ScriptedSender, disk: Disk
) -> AsyncIterator[Service]:
    """A service with a task and a schedule."""
    path = tmp_path / "tasks.sqlite3"
    service = await Service.opened(
        path,
        clock=clock,
        sender=sender,
        random=seeded(),
        disk=disk,
        POUSSETACHES_ALERT_URL=CHAT,
    )
    assert (await request(service.app, "PUT", "/v1/schedules/known", HOURLY)).status == 201
    yield service
    disk.error = None
    await service.close()


async def known_task(service: Service) -> str:
    """Store a task and a schedule of the original, and return the id of the task."""
    scheduled = await request(service.app, "POST", "/", {**PUSH, "schedule": "@hourly"})
    assert scheduled.status == 201
    answer = await request(service.app, "POST", "/v1/tasks", TASK)
    assert answer.status == 201
    task_id: str = answer.json["id"]
    return task_id


async def fail_a_push(service: Service) -> Answered:
    return await request(service.app, "POST", "/v1/tasks", TASK)


def told(answer: Answered) -> tuple[int, str]:
    """Return the status and the code of a problem that passes, and that changed nothing."""
    assert int(answer.headers["retry-after"]) >= 1
    return problem(answer)


def problem(answer: Answered) -> tuple[int, str]:
    """Return the status and the code of a problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == answer.status
    return answer.status, answer.json["type"].removeprefix("urn:poussetaches:problem:")


async def alerts(service: Service, sender: ScriptedSender, *, after: float) -> str:
    """Advance the time in steps of ten seconds; return the posted alerts."""
    count = len(sender.requests)
    for _ in range(round(after / 10)):
        await service.advance(10)
        await let_run()
    posts = [one.body for one in sender.requests[count:] if one.url == CHAT]
    return "\n".join(json.loads(body)["text"] for body in posts)


MAKING: list[tuple[str, str, object]] = [
    ("POST", "/", PUSH),
    ("POST", "/v1/tasks", TASK),
    ("POST", "/v1/tasks/batch", {"tasks": [TASK]}),
    ("PUT", "/v1/queues/new", {}),
    ("PATCH", "/v1/queues/new", {}),
    ("PUT", "/v1/schedules/new", HOURLY),
    ("PUT", "/v1/schedules", {"owner": "app", "schedules": [{"name": "new", **HOURLY}]}),
    ("POST", "/v1/schedules/known/run", None),
]
CHANGING: list[tuple[str, str, object]] = [
    ("PATCH", "/v1/tasks/{id}", {"priority": 1}),
    ("POST", "/v1/tasks/{id}/run", None),
    ("POST", "/v1/tasks/{id}/cancel", None),
    ("DELETE", "/v1/tasks/{id}", None),
    ("POST", "/v1/tasks/cancel", {"all": True}),
    ("POST", "/v1/queues/default/pause", None),
    ("POST", "/v1/queues/default/purge", None),
    ("POST", "/v1/schedules/known/pause", None),
    ("DELETE", "/v1/schedules/known", None),
    ("POST", "/v1/pause", None),
    ("POST", "/pause", None),
    ("DELETE", "/cron", None),
]
LOOKS = [
    *("/", "/waiting", "/v1/tasks", "/v1/tasks/{id}", "/v1/queues", "/v1/queues/default"),
    *("/v1/schedules", "/v1/failures", "/v1/stats", "/metrics", "/healthz"),
]


@pytest.mark.parametrize(("method", "path", "body"), MAKING)
async def test_full_disk_takes_nothing_new(
    service: Service, disk: Disk, method: str, path: str, body: object
) -> None:
    disk.error = FULL
    first = await request(service.app, method, path, body)
    disk.error = None

    again = await request(service.app, method, path, body)

    assert told(first) == told(again) == (507, "store-full")


@pytest.mark.parametrize(("method", "path", "body"), CHANGING)
async def test_full_disk_allows_deletions_and_changes(
    service: Service, disk: Disk, method: str, path: str, body: object
) -> None:
    task_id = await known_task(service)
    disk.error = FULL
    await fail_a_push(service)
    disk.error = None

    answer = await request(service.app, method, path.format(id=task_id), body)

    assert answer.status in (200, 204)


@pytest.mark.parametrize(("method", "path", "body"), MAKING + CHANGING)
async def test_broken_store_takes_nothing_at_all(
    service: Service, disk: Disk, method: str, path: str, body: object
) -> None:
    target = path.format(id=await known_task(service))
    disk.error = BROKEN

    first = await request(service.app, method, target, body)
    again = await request(service.app, method, target, body)

    assert problem(first) == (503, "outcome-unknown")
    assert "retry-after" not in first.headers
    assert told(again) == (503, "store-unavailable")


@pytest.mark.parametrize("path", ["/v1/tasks", "/"])
async def test_push_that_was_stored_though_its_commit_failed_is_not_called_unstored(
    service: Service, disk: Disk, path: str
) -> None:
    """Without a key, it must not be repeated."""
    push = {**TASK, "key": "k"} if path == "/v1/tasks" else PUSH
    disk.error, disk.keeps_what_fails = BROKEN, True

    first = await request(service.app, "POST", path, push)
    disk.error = None
    await service.advance(2)
    again = await request(service.app, "POST", path, push)

    stored = (await request(service.app, "GET", "/v1/tasks")).json["tasks"]
    assert problem(first) == (503, "outcome-unknown")
    assert (again.status, len(stored)) == ((200, 1) if path == "/v1/tasks" else (201, 2))


class Reader(InlineRunner):
    """Reads until a test makes reading fail."""

    def __init__(self) -> None:
        self.is_gone = False

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Read, or fail."""
        if self.is_gone:
            raise StoreUnavailable("nothing can be read")
        return work()


def content_of(path: Path) -> list[str]:
    with closing(raw(path)) as database:
        return list(database.iterdump())


@pytest.mark.parametrize("call", MAKING + CHANGING, ids=lambda call: f"{call[0]} {call[1]}")
async def test_change_after_which_nothing_can_be_read_is_not_called_undone(
    tmp_path: Path,
    clock: FakeClock,
    sender: ScriptedSender,
    call: tuple[str, str, object],
) -> None:
    method, path, body = call
    file, reader = tmp_path / "tasks.sqlite3", Reader()
    service = await Service.opened(
        file, clock=clock, sender=sender, random=seeded(), reader=reader
    )
    await request(service.app, "PUT", "/v1/schedules/known", HOURLY)
    target = path.format(id=await known_task(service))
    before = content_of(file)
    reader.is_gone = True

    answer = await request(service.app, method, target, body)

    was_changed = content_of(file) != before
    reader.is_gone = False
    await service.close()
    if answer.status == 503:
        assert problem(answer)[1] == ("outcome-unknown" if was_changed else "store-unavailable")
        assert ("retry-after" in answer.headers) is not was_changed
    else:
        assert answer.status in (200, 201, 204)


@pytest.mark.parametrize("path", LOOKS)
@pytest.mark.parametrize("error", [FULL, BROKEN], ids=["full", "broken"])
async def test_store_in_trouble_can_be_looked_at(
    service: Service, disk: Disk, error: sqlite3.Error, path: str
) -> None:
    task_id = await known_task(service)
    disk.error = error
    await fail_a_push(service)

    answer = await request(service.app, "GET", path.format(id=task_id))

    assert answer.status == 200


@pytest.mark.parametrize(
    ("error", "code"),
    [(FULL, "store-full"), (BROKEN, "store-unavailable")],
    ids=["full", "broken"],
)
async def test_server_is_not_ready_and_says_why_until_the_store_has_recovered(
    service: Service, disk: Disk, error: sqlite3.Error, code: str
) -> None:
    disk.error = error
    await fail_a_push(service)

    refused = await request(service.app, "GET", "/readyz")
    stats = await request(service.app, "GET", "/v1/stats")
    disk.error = None
    await service.advance(2)

    assert told(refused) == (503, code)
    assert stats.json["store"]["trouble"] == refused.json["detail"]
    assert (await request(service.app, "GET", "/readyz")).status == 200
    assert (await fail_a_push(service)).status == 201


async def test_task_waits_for_a_store_that_is_full(service: Service, disk: Disk) -> None:
    task_id = await known_task(service)
    disk.error = FULL
    await fail_a_push(service)

    task = (await request(service.app, "GET", f"/v1/tasks/{task_id}")).json

    assert [one["reason"] for one in task["waiting_for"]] == ["store_full"]
    queue = (await request(service.app, "GET", "/v1/queues/default")).json
    assert [one["reason"] for one in queue["waiting_for"]] == ["store_full"]


async def test_bulk_call_of_a_server_that_stops_is_to_be_repeated(service: Service) -> None:
    task_id = await known_task(service)
    await service.end_requests()

    answer = await request(service.app, "POST", "/v1/tasks/cancel", {"all": True})

    assert told(answer) == (503, "stopping")
    task = (await request(service.app, "GET", f"/v1/tasks/{task_id}")).json
    assert task["state"] == "waiting"


async def test_task_waits_for_the_next_start_of_a_server_that_drains(
    service: Service,
) -> None:
    task_id = await known_task(service)
    await service.drain()

    task = (await request(service.app, "GET", f"/v1/tasks/{task_id}")).json

    assert [one["reason"] for one in task["waiting_for"]] == ["draining"]


async def test_server_with_a_stuck_engine_is_unhealthy(service: Service, clock: FakeClock) -> None:
    clock.advance(61)

    stuck = await request(service.app, "GET", "/healthz")
    ready = await request(service.app, "GET", "/readyz")
    await service.advance(0)

    assert told(stuck) == (503, "stuck")
    assert ready.status == 200
    assert (await request(service.app, "GET", "/healthz")).status == 200


async def test_server_is_not_ready_while_a_row_was_set_aside_unseen(
    service: Service, tmp_path: Path
) -> None:
    task_id = await known_task(service)
    with closing(raw(tmp_path / "tasks.sqlite3")) as database:
        database.execute("UPDATE tasks SET headers = '{' WHERE id = ?", (task_id,))

    shown = await request(service.app, "GET", f"/v1/tasks/{task_id}")
    await request(service.app, "DELETE", f"/v1/tasks/{task_id}")
    refused = await request(service.app, "GET", "/readyz")

    assert shown.status == 404
    assert told(refused) == (503, "unreadable-rows")


async def test_held_origin_and_late_tasks_are_posted_once_and_their_end_too(
    service: Service, sender: ScriptedSender
) -> None:
    sender.goes_away(ORIGIN)
    await known_task(service)

    quiet = await alerts(service, sender, after=110)
    held = await alerts(service, sender, after=30)
    late = await alerts(service, sender, after=180)
    still = await alerts(service, sender, after=600)
    sender.comes_back(ORIGIN)
    over = await alerts(service, sender, after=60)

    assert quiet == still == ""
    assert f"{ORIGIN} could not be reached" in held
    assert "The oldest due task of queue default is" in late
    assert f"{ORIGIN} is no longer held." in over
    assert "Due tasks are no longer late" in over


async def test_full_store_is_posted_and_so_is_its_end(
    service: Service, disk: Disk, sender: ScriptedSender
) -> None:
    disk.error = FULL
    await fail_a_push(service)
    full = await alerts(service, sender, after=10)
    disk.error = None

    over = await alerts(service, sender, after=20)

    assert "The disk is full" in full
    assert "The store can be written again." in over


async def test_listing_is_read_no_faster_than_the_client_reads_it(
    tmp_path: Path, clock: FakeClock, sender: ScriptedSender
) -> None:
    path = tmp_path / "another.sqlite3"
    service = await Service.opened(path, clock=clock, sender=sender, random=seeded())
    for _ in range(6):
        await request(service.app, "POST", "/", {**PUSH, "payload": LARGE, "delay": 60})
    reads = asyncio.Event()
    sent: list[int] = []

    async def take_slowly(message: Message) -> None:
        """Take the first piece, and nothing after it until the client reads."""
        if sent:
            await reads.wait()
        if message.get("body"):
            sent.append(len(message["body"]))

    listing = asyncio.create_task(
        request_in_pieces(service.app, "GET", "/waiting", [b""], on_sent=take_slowly)
    )
    await let_run(100)
    first = sum(sent)
    reads.set()
    answer = await listing
    await service.close()

    assert len(LARGE) < first < 3 * len(LARGE)
    assert len(answer.json["tasks"]) == 6


async def test_listing_that_cannot_be_read_to_its_end_is_broken_off(
    tmp_path: Path, clock: FakeClock, sender: ScriptedSender, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "another.sqlite3"
    service = await Service.opened(path, clock=clock, sender=sender, random=seeded())
    for _ in range(PAGE + 1):
        await request(service.app, "POST", "/", {**PUSH, "delay": 60})

    async def end_at_first_task(message: Message) -> None:
        if message.get("body"):
            await service.close()

    answer = await request_in_pieces(
        service.app, "GET", "/waiting", [b""], on_sent=end_at_first_task
    )

    assert (answer.status, answer.is_whole) == (200, False)
    assert answer.body.startswith(b'{"tasks":[{')
    assert [record.message for record in caplog.records] == ["response aborted"]
