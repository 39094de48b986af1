"""A server on a database with values of a later version: delivered, shown, patched, declared."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.integration.asgi import Answered, request
from tests.integration.service import Service
from tests.store.sqlite_files import raw

URL = "http://app.test/run"
# Members that this version does not know, and values beyond its limits.
RETRY = {"max_attempts": 1_000_000, "jitter": 7.5, "dead_on": [600], "spread": {"by": 2}}
KNOWN_RETRY = {name: value for name, value in RETRY.items() if name != "spread"}
SETTINGS = {
    "timeout": 100_000.0,
    "concurrency": 20_000,
    "retry": RETRY,
    "keep_dead": {"age": 1e10, "bytes": 7},
    "window": "9-17",
}
EXPECTED = [600, "2xx"]


class Place:
    """A database file, and the clock and sender of services on it."""

    def __init__(self, path: Path, clock: FakeClock, sender: ScriptedSender) -> None:
        self.path = path
        self._clock = clock
        self._sender = sender

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Service]:
        """Run a service on the file."""
        service = await Service.opened(
            self.path, clock=self._clock, sender=self._sender, random=seeded()
        )
        yield service
        await service.close()

    def column(self, table: str, column: str, where: str) -> Any:
        """Return the decoded JSON of a row."""
        with closing(raw(self.path)) as database:
            rows = database.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchall()  # noqa: S608
        [[text]] = rows
        return json.loads(text)

    def write(self, table: str, where: str, **columns: object) -> None:
        """Write JSON into a row, as another version would have."""
        with closing(raw(self.path)) as database:
            for column, value in columns.items():
                statement = f"UPDATE {table} SET {column} = ? WHERE {where}"  # noqa: S608
                assert database.execute(statement, [json.dumps(value)]).rowcount == 1


@pytest.fixture
async def place(tmp_path: Path, clock: FakeClock, sender: ScriptedSender) -> Place:
    """Return a place with a task, a queue and a schedule of a later version."""
    place = Place(tmp_path / "tasks.db", clock, sender)
    async with place.served() as service:
        task = {"url": URL, "queue": "mail", "retry": {"jitter": 0}, "labels": {"id": "1"}}
        await called(service, "POST", "/v1/tasks", task)
        await called(service, "PATCH", "/v1/queues/mail?declared=true", {"burst": 2})
        schedule = {"name": "s", "cron": "@hourly", "task": {**task, "text": "kept"}}
        await called(service, "PUT", "/v1/schedules", {"owner": "app", "schedules": [schedule]})
    template = place.column("schedules", "task", "name = 's'")
    template |= {"retry": RETRY, "expected": EXPECTED, "timeout": 1e6, "deadline": {"after": 5}}
    place.write("tasks", "queue = 'mail'", retry=RETRY, expected=EXPECTED)
    place.write("queues", "name = 'mail'", settings=SETTINGS, declared=SETTINGS)
    place.write("schedules", "name = 's'", task=template)
    return place


async def called(service: Service, method: str, path: str, body: object = None) -> Any:
    """Return the answer to a request that must succeed."""
    answer = await request(service.app, method, path, body)
    assert answer.status < 300, answer.body
    return answer.json


async def task_of(service: Service, queue: str = "mail") -> Any:
    """Return the only task of a queue."""
    [task] = (await called(service, "GET", f"/v1/tasks?queue={queue}"))["tasks"]
    return task


async def test_task_of_another_version_is_delivered(place: Place, sender: ScriptedSender) -> None:
    sender.replies(600)

    async with place.served() as service:
        await service.advance(1)
        task = await task_of(service)
        health = await called(service, "GET", "/healthz")

    assert (task["state"], task["last_status"]) == ("succeeded", 600)
    assert "unreadable_rows" not in health


async def test_what_another_version_wrote_is_shown_as_far_as_it_is_known(place: Place) -> None:
    async with place.served() as service:
        task = await task_of(service)
        queue = await called(service, "GET", "/v1/queues/mail")
        schedule = await called(service, "GET", "/v1/schedules/s")

    assert (task["retry"], task["expected"]) == (KNOWN_RETRY, EXPECTED)
    assert queue["retry"].items() >= KNOWN_RETRY.items()
    assert (queue["concurrency"], queue["keep_dead"]["age"]) == (20_000, 1e10)
    assert not queue.keys() & {"window", "unknown", ""}
    assert queue["sources"]["concurrency"] == "code"
    assert (schedule["task"]["retry"], schedule["task"]["timeout"]) == (KNOWN_RETRY, 1e6)


async def test_patch_of_a_task_keeps_what_another_version_wrote(place: Place) -> None:
    async with place.served() as service:
        path = f"/v1/tasks/{(await task_of(service))['id']}"
        await called(service, "PATCH", path, {"priority": 3})
        await called(service, "PATCH", path, {"retry": {"max_age": 60, "jitter": None}})

    expected = {name: value for name, value in RETRY.items() if name != "jitter"}
    assert place.column("tasks", "retry", "queue = 'mail'") == {**expected, "max_age": 60}
    assert place.column("tasks", "expected", "queue = 'mail'") == EXPECTED


async def test_bulk_requeue_with_changes_keeps_what_another_version_wrote(
    place: Place,
) -> None:
    async with place.served() as service:
        await called(service, "POST", f"/v1/tasks/{(await task_of(service))['id']}/cancel")
        found = await called(
            service,
            "POST",
            "/v1/tasks/requeue",
            {"filter": {"state": "dead"}, "set": {"retry": {"min_backoff": 1}}},
        )

    assert found["count"] == 1
    assert place.column("tasks", "retry", "queue = 'mail'") == {**RETRY, "min_backoff": 1}


async def test_patch_of_a_queue_keeps_what_another_version_wrote(place: Place) -> None:
    async with place.served() as service:
        patch = {"rate": "30/min", "timeout": None, "retry": {"jitter": None, "max_age": 5}}
        await called(service, "PATCH", "/v1/queues/mail", patch)
        await called(service, "POST", "/v1/queues/mail/pause")

    retry = {name: value for name, value in RETRY.items() if name != "jitter"}
    expected = {**SETTINGS, "rate": 0.5, "retry": {**retry, "max_age": 5}}
    del expected["timeout"]
    assert place.column("queues", "settings", "name = 'mail'") == expected
    assert place.column("queues", "declared", "name = 'mail'") == SETTINGS


async def test_other_declaration_of_a_queue_resets_what_the_last_one_named(place: Place) -> None:
    place.write("queues", "name = 'mail'", settings={**SETTINGS, "operator": [1]})

    async with place.served() as service:
        await called(service, "PATCH", "/v1/queues/mail?declared=true", {"burst": 3})

    settings = place.column("queues", "settings", "name = 'mail'")
    assert settings == {"burst": 3, "operator": [1]}
    assert place.column("queues", "declared", "name = 'mail'") == {"burst": 3}


@pytest.mark.parametrize(
    "patch",
    [
        {"misfire": "skip"},
        {"cron": "@daily", "task": {"priority": 3}},
        {"task": {"labels": {"a": "b"}, "headers": {"X-A": "b"}, "url": "http://app.test/other"}},
    ],
    ids=str,
)
async def test_patch_of_a_schedule_keeps_what_another_version_wrote(
    place: Place, patch: dict[str, Any]
) -> None:
    before = place.column("schedules", "task", "name = 's'")

    async with place.served() as service:
        await called(service, "PATCH", "/v1/schedules/s", patch)

    changes = patch.get("task", {})
    labels = before["labels"] | changes.get("labels", {})
    after = {**before, **changes, "labels": labels}
    assert place.column("schedules", "task", "name = 's'") == after


async def test_patch_of_a_template_merges_its_retry_policy_as_it_is_stored(place: Place) -> None:
    async with place.served() as service:
        patch = {"task": {"retry": {"jitter": None, "min_backoff": 2}, "text": "other"}}
        await called(service, "PATCH", "/v1/schedules/s", patch)
        refused = await request(
            service.app, "PATCH", "/v1/schedules/s", {"task": {"retry": {"max_backoff": 1}}}
        )

    template = place.column("schedules", "task", "name = 's'")
    expected = {name: value for name, value in RETRY.items() if name != "jitter"}
    assert template["retry"] == {**expected, "min_backoff": 2}
    assert (template["deadline"], template["timeout"]) == ({"after": 5}, 1e6)
    assert refused_field(refused) == "task.retry.min_backoff"


async def test_run_of_a_schedule_of_another_version_is_delivered(
    place: Place, sender: ScriptedSender
) -> None:
    sender.replies(600, 600)

    async with place.served() as service:
        await service.advance(3600)
        runs = (await called(service, "GET", "/v1/schedules/s/runs"))["tasks"]

    assert [run["state"] for run in runs] == ["succeeded"]
    assert place.column("tasks", "retry", "schedule = 's'") == RETRY


@pytest.mark.parametrize("field", ["max_attempts", "spread"])
async def test_what_another_version_allows_is_refused_when_it_is_asked_for(
    place: Place, field: str
) -> None:
    async with place.served() as service:
        refused = await request(
            service.app, "POST", "/v1/tasks", {"url": URL, "retry": {field: RETRY[field]}}
        )

    assert refused_field(refused) == f"retry.{field}"


def refused_field(answer: Answered) -> str:
    """Return the field for which a request was refused."""
    assert answer.status == 422, answer.body
    [error] = answer.json["errors"]
    field: str = error["field"]
    return field
