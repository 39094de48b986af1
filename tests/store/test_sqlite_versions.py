"""Databases and exports with JSON that another version of poussetaches wrote."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from poussetaches.core.edits import Requeue
from poussetaches.core.progress_report import Progress
from poussetaches.core.queue import Queue, QueueOverrides
from poussetaches.core.retry import RetryOverrides
from poussetaches.core.schedule import Schedule, declared_as_written
from poussetaches.core.task import Bury, Reason
from poussetaches.store import verify_store
from poussetaches.store.base import Push
from poussetaches.store.folder import DataFolder
from tests.factories import NOW, make_schedule, make_task
from tests.store.driving import changed, finish_of, lease_one, put_schedule
from tests.store.sqlite_files import exported, imported, opened, raw

RETRY = '{"spread":{"by":1.10},"jitter":7.5,"max_attempts":1000000,"dead_on":[600,"9xx"]}'
SETTINGS = (
    '{"concurrency":1000000,"timeout":1e9,"window":["9-17"],'
    f'"retry":{RETRY},"keep_dead":{{"bytes":1e400,"count":-1}}}}'
)
EXPECTED = '[700,"2xx"]'
PROGRESS = '{"unit":"MB","done":1,"total":null,"note":null,"at":5}'
# The JSON in a row, and the JSON that another version would have written.
COLUMNS = {
    ("tasks", "retry"): RETRY,
    ("tasks", "expected"): EXPECTED,
    ("attempts", "progress"): PROGRESS,
    ("queues", "settings"): SETTINGS,
    ("queues", "declared"): SETTINGS,
}


@pytest.fixture
async def folder(tmp_path: Path) -> DataFolder:
    """Return a folder with a dead task, a queue and a schedule of another version."""
    folder = DataFolder(tmp_path / "data")
    folder.path.mkdir()
    async with opened(folder.database) as store:
        task = make_task("a", queue="mail", retry=RetryOverrides(), expected=(200,))
        await store.edit_queue("mail", lambda _: Queue(name="mail", declared=QueueOverrides()))
        await store.push([Push(task=task)], now=NOW)
        lease, progress = await lease_one(store), Progress(done=1, at=NOW)
        exhausted = finish_of(lease, Bury(Reason.EXHAUSTED), progress=progress)
        await store.finish([exhausted], now=NOW)
        await put_schedule(store, declared_as_written(make_schedule("s")))
    with closing(raw(folder.database)) as database:
        for (table, column), text in COLUMNS.items():
            database.execute(f"UPDATE {table} SET {column} = ?", [text])  # noqa: S608
        [[task_json, declared]] = database.execute("SELECT task, declared FROM schedules")
        template = {"deadline": [1], **json.loads(task_json), "retry": json.loads(RETRY)}
        definition = {"group": "x", **json.loads(declared), "task": template}
        database.execute(
            "UPDATE schedules SET task = ?, declared = ?",
            [json.dumps(template), json.dumps(definition)],
        )
    return folder


def stored(folder: DataFolder) -> dict[str, Any]:
    """Return the JSON of every row, with the text of numbers."""
    found: dict[str, Any] = {}
    with closing(raw(folder.database)) as database:
        columns = [*COLUMNS, ("schedules", "task"), ("schedules", "declared")]
        for table, column in columns:
            where = "WHERE name = 'mail'" if table == "queues" else ""
            [[text]] = database.execute(f"SELECT {column} FROM {table} {where}").fetchall()  # noqa: S608
            found[f"{table}.{column}"] = json.loads(text, parse_float=as_written)
    return found


def as_written(number: str) -> float | str:
    """Return a number that an unknown member may have as its text."""
    return number if number in ("1.10", "1e400") else float(number)


async def test_rows_of_another_version_are_rewritten_without_loss(
    folder: DataFolder,
) -> None:
    before = stored(folder)

    async with opened(folder.database) as store:
        await store.edit("a", Requeue(at=NOW), now=NOW)
        await store.edit("a", changed(priority=3), now=NOW)
        await store.edit_queue("mail", paused_queue)
        await store.edit_schedule("s", paused_schedule, now=NOW)
        lease = await lease_one(store)

        assert store.unreadable_count == 0
        assert lease.task.retry is not None
        assert (lease.task.retry.max_attempts, lease.task.expected) == (1_000_000, (700, "2xx"))
    assert stored(folder) == before


async def test_export_and_import_keep_values_of_another_version(
    folder: DataFolder, tmp_path: Path
) -> None:
    content = exported(folder)

    copy = await imported(tmp_path / "copy", content)

    assert stored(copy) == stored(folder)
    assert exported(copy) == content
    assert verify_store(folder, lambda *_: None).problems == []
    assert verify_store(copy, lambda *_: None).problems == []


async def test_export_of_another_version_is_imported_without_loss(
    folder: DataFolder, tmp_path: Path
) -> None:
    """Its members may be in any order, and its JSON in any form."""
    lines = exported(folder).splitlines()
    content = b"\n".join(spaced(line) for line in lines) + b"\n"

    copy = await imported(tmp_path / "copy", content)

    assert stored(copy) == stored(folder)


async def test_run_of_a_schedule_has_the_retry_policy_of_its_template(folder: DataFolder) -> None:
    async with opened(folder.database) as store:
        schedule = await store.schedule("s")
        assert schedule is not None
        run = msgspec.structs.replace(schedule.task, id="run", schedule="s")
        await store.fire_by_hand("s", run)
        await store.edit("run", changed(priority=3), now=NOW)

        found = await store.get("run")

    assert found is not None
    assert found.retry == schedule.task.retry


def paused_queue(queue: Queue | None) -> Queue:
    assert queue is not None
    return msgspec.structs.replace(queue, paused=True)


def paused_schedule(schedule: Schedule | None) -> Schedule:
    assert schedule is not None
    return msgspec.structs.replace(schedule, paused=True)


def spaced(line: bytes) -> bytes:
    """Return a line of JSON with its members in the opposite order, and spaces between them."""
    members = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    text = msgspec.json.encode(dict(reversed(members.items())))
    return b" " + text.replace(b'{"type"', b'{ "type"')
