"""The upgrade of a database of version 1.0.0."""

from __future__ import annotations

import json
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from poussetaches.core.cause import Cause
from poussetaches.core.errors import CannotOpenStore
from poussetaches.core.failure_group import FailureGroup
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.queue import Queue, QueueOverrides
from poussetaches.core.responses import QueueCounts
from poussetaches.core.schedule import Misfire, Overlap, Schedule
from poussetaches.core.task import Attempt, Complete, DeliveryForm, Reason, Task, TaskState
from poussetaches.store import verify_store
from poussetaches.store.base import FailureCount
from poussetaches.store.folder import DataFolder
from tests.factories import NOW, URL
from tests.store.driving import (
    counts_of,
    end,
    found_by,
    ids_of,
    known,
    lease_one,
    listed,
)
from tests.store.sqlite_files import opened, raw

LATER = Moment(NOW + HOUR)
TEMPLATE = {"id": "s", "url": URL, "created_at": NOW, "run_at": NOW, "due_at": NOW, "body": "aGk="}

ROWS = f"""
INSERT INTO server VALUES ('paused', '1');
INSERT INTO queues VALUES ('mail', 2, 1, 1, 1);
INSERT INTO lanes VALUES (7, 'mail', 'http://app.test:5000', {NOW});
INSERT INTO tasks (
    seq, id, lane, queue, state, reason, priority, run_at, due_at, created_at, ended_at, round,
    attempt_count, attempt_total, last_status, last_error, schedule, envelope, method, url,
    headers, expected, timeout, body
) VALUES
    (3, 'waits', 7, 'mail', 'waiting', NULL, 5, {NOW}, {NOW}, {NOW}, NULL, 1,
        0, 0, NULL, NULL, NULL, 1, 'PUT', '{URL}',
        '{{"X":"1"}}', '[201]', 2.5, x'ff00'),
    (4, 'fails', 7, 'mail', 'waiting', NULL, 0, {LATER}, {NOW}, {NOW}, NULL, 1,
        2, 2, NULL, 'connection reset', NULL, 0, 'POST', '{URL}', NULL, NULL, NULL, x''),
    (5, 'dead', 7, 'mail', 'dead', 'exhausted', 0, {NOW}, {NOW}, {NOW}, {LATER}, 1,
        12, 12, 500, NULL, 's', 0, 'POST', '{URL}', NULL, NULL, NULL, NULL),
    (6, 'done', 7, 'mail', 'succeeded', NULL, 0, {NOW}, {NOW}, {NOW}, {NOW}, 1,
        1, 1, 200, NULL, NULL, 0, 'POST', '{URL}', NULL, NULL, NULL, x'aa'),
    (9, 'gone', 7, 'mail', 'waiting', NULL, 0, {NOW}, {NOW}, {NOW}, NULL, 1,
        0, 0, NULL, NULL, NULL, 0, 'POST', '{URL}', NULL, NULL, NULL, NULL);
DELETE FROM tasks WHERE id = 'gone';
INSERT INTO attempts VALUES
    (4, 2, 1, 2, 'request', {NOW + 5}, 0.5, 0, NULL, 'connection reset', 0, 1, x'00');
INSERT INTO schedules VALUES (
    's', 'original', '@every 1h', 'UTC', '{json.dumps(TEMPLATE)}',
    {NOW}, {NOW}, {LATER}, {NOW}, 'dead'
);
"""  # noqa: S608 - of values made up here


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a database as version 1.0.0 left it."""
    path = tmp_path / "tasks.db"
    create(path, "0001_initial.sql", rows=ROWS)
    return path


def create(path: Path, *migrations: str, rows: str, added: str = "") -> None:
    """Create a database by the first migrations; ``added`` runs before the last one."""
    folder = resources.files("poussetaches.store").joinpath("sql", "migrations", "sqlite")
    *earlier, last = [folder.joinpath(name).read_text() for name in migrations]
    scripts = "".join([*earlier, added, last])
    with closing(raw(path)) as database:
        database.executescript(
            f"""
            PRAGMA auto_vacuum = INCREMENTAL;
            PRAGMA journal_mode = WAL;
            {scripts}
            PRAGMA application_id = 0x706F7573;
            PRAGMA user_version = {len(migrations)};
            {rows}
            """
        )


def dump_of(path: Path) -> list[object]:
    """Return the content of a database and its version."""
    with closing(raw(path)) as database:
        version = database.execute("PRAGMA user_version").fetchone()
        return [version, *database.iterdump()]


def moved(path: Path, folder: str) -> Path:
    """Move a database to a new folder beside it; return where it is."""
    new = path.parent / folder / path.name
    new.parent.mkdir()
    return path.rename(new)


COLUMNS_OF_EARLIER_CLONES = """
ALTER TABLE queues ADD COLUMN declared TEXT;
ALTER TABLE attempts ADD COLUMN progress TEXT;
ALTER TABLE attempts ADD COLUMN cause TEXT;
ALTER TABLE schedules ADD COLUMN declared TEXT;
"""
ROWS_OF_EARLIER_CLONES = f"""
INSERT INTO queues (name, settings, declared, configured)
    VALUES ('mail', '{{"concurrency":3}}', '{{"concurrency":4}}', 1);
INSERT INTO lanes VALUES (7, 'mail', 'http://app.test:5000', 0, {NOW});
INSERT INTO tasks (
    seq, id, lane, queue, state, priority, run_at, due_at, created_at, ended_at, round,
    attempt_count, attempt_total, envelope, method, url
) VALUES
    (3, 'done', 7, 'mail', 'succeeded', 0,
        {NOW}, {NOW}, {NOW}, {NOW}, 1, 1, 1, 0, 'POST', '{URL}');
UPDATE queues SET succeeded = 1 WHERE name = 'mail';
INSERT INTO attempts VALUES
    (3, 1, 1, 1, 'request', {NOW}, 0.5, 0, NULL, 'no answer', 0, 1, NULL, NULL, 'timeout');
"""  # noqa: S608 - of values made up here


async def test_all_data_of_version_1_0_0_is_kept(path: Path) -> None:
    async with opened(path) as store:
        assert await store.get("waits") == Task(
            id="waits",
            url=URL,
            created_at=NOW,
            run_at=NOW,
            due_at=NOW,
            queue="mail",
            method="PUT",
            headers={"X": "1"},
            body=b"\xff\x00",
            delivery=DeliveryForm.ENVELOPE,
            priority=5,
            expected=(201,),
            timeout=2.5,
        )
        assert await store.attempts("fails") == [
            Attempt(
                round=1,
                number=2,
                request_id="request",
                started_at=Moment(NOW + 5),
                duration=0.5,
                succeeded=False,
                error="connection reset",
                key_sent=True,
                response_body=b"\x00",
            )
        ]
        assert await found_by(store, TaskFilter()) == ["done", "dead", "fails", "waits"]
        assert (await known(store, "dead")).reason is Reason.EXHAUSTED
        assert ids_of(await listed(store, TaskState.WAITING)) == ["waits"]
        assert await store.paused() is True
        assert await counts_of(store) == {
            "mail": QueueCounts(waiting=2, failing=1, succeeded=1, dead=1)
        }
        assert await store.queues() == {
            "default": Queue(name="default"),
            "mail": Queue(name="mail"),
        }
        assert store.unreadable_count == 0


async def test_schedule_of_version_1_0_0_has_the_defaults(path: Path) -> None:
    async with opened(path) as store:
        assert await store.schedules("original") == [
            Schedule(
                name="s",
                owner="original",
                cron="@every 1h",
                task=Task(id="s", url=URL, created_at=NOW, run_at=NOW, due_at=NOW, body=b"hi"),
                created_at=NOW,
                anchor_at=NOW,
                next_run_at=LATER,
                misfire=Misfire.ONCE,
                overlap=Overlap.SKIP,
                last_fired_at=NOW,
                last_task_id="dead",
            )
        ]


async def test_failures_of_version_1_0_0_are_in_groups(path: Path) -> None:
    async with opened(path) as store:
        reset = FailureGroup(queue="mail", url_path="/run", status=None, error="connection reset")
        assert await store.failures(TaskState.WAITING) == [
            FailureCount(
                group=reset,
                count=1,
                first_at=Moment(NOW + 5),
                last_at=Moment(NOW + 5),
                example_id="fails",
            )
        ]
        assert [
            (one.group.error, one.last_at) for one in await store.failures(TaskState.DEAD)
        ] == [("", LATER)]
        assert await found_by(store, TaskFilter(group=reset.id)) == ["fails"]
        assert await found_by(store, TaskFilter(failing=True)) == ["fails"]


async def test_task_of_version_1_0_0_runs(path: Path) -> None:
    async with opened(path) as store:
        due = await store.next_due()

        await end(store, await lease_one(store), Complete())

        [lane] = due
        assert due == {lane: NOW}
        assert (await known(store, "waits")).state is TaskState.SUCCEEDED
        assert await counts_of(store) == {
            "mail": QueueCounts(waiting=1, failing=1, succeeded=2, dead=1)
        }


async def test_numbers_of_version_1_0_0_are_not_reused(path: Path) -> None:
    async with opened(path) as store:
        await store.add(Task(id="new", url=URL, created_at=NOW, run_at=NOW, due_at=NOW))

    with closing(raw(path)) as database:
        assert database.execute("SELECT seq FROM tasks WHERE id = 'new'").fetchone() == (10,)


async def test_unreadable_row_of_version_1_0_0_does_not_prevent_the_upgrade(path: Path) -> None:
    with closing(raw(path)) as database:
        database.execute("UPDATE tasks SET url = CAST(x'ff' AS TEXT) WHERE id = 'fails'")
        database.execute("UPDATE tasks SET url = 'http://[' WHERE id = 'dead'")

    async with opened(path) as store:
        found = [await store.get(id) for id in ("fails", "dead")]

        assert found == [None, None]
        assert store.unreadable_count == 2
        assert await found_by(store, TaskFilter()) == ["done", "waits"]
        assert await counts_of(store) == {"mail": QueueCounts(waiting=1, succeeded=1)}


async def test_failed_upgrade_does_not_change_the_database(path: Path) -> None:
    with closing(raw(path)) as database:
        # A foreign table: the upgrade reaches it after the tasks were rewritten.
        database.execute("CREATE TABLE labels (of TEXT)")
    before = dump_of(path)

    with pytest.raises(CannotOpenStore, match="table labels already exists"):
        async with opened(path):
            pass

    assert dump_of(path) == before
    with closing(raw(path)) as database:
        database.execute("DROP TABLE labels")
    async with opened(path) as store:
        assert await found_by(store, TaskFilter()) == ["done", "dead", "fails", "waits"]


async def test_upgrade_works_in_a_folder_with_any_name(path: Path) -> None:
    async with opened(moved(path, 'it\'s a "folder" é')) as store:
        assert await found_by(store, TaskFilter()) == ["done", "dead", "fails", "waits"]


async def test_database_without_tasks_is_upgraded(path: Path) -> None:
    with closing(raw(path)) as database:
        database.executescript("DELETE FROM tasks; DELETE FROM sqlite_sequence;")

    async with opened(path) as store:
        await store.add(Task(id="new", url=URL, created_at=NOW, run_at=NOW, due_at=NOW))

        assert await found_by(store, TaskFilter()) == ["new"]


async def test_database_of_format_2_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    queue = """INSERT INTO queues (name, settings) VALUES ('mail', '{"concurrency":3}');"""
    create(path, "0001_initial.sql", "0002_v1.sql", rows=queue)

    async with opened(path) as store:
        found = await store.queues()
        await store.add(Task(id="new", url=URL, created_at=NOW, run_at=NOW, due_at=NOW))
        await end(store, await lease_one(store), Complete())

        assert found["mail"].overrides.concurrency == 3
        assert found["mail"].declared is None
        assert await counts_of(store) == {"default": QueueCounts(succeeded=1)}


async def test_columns_that_earlier_clones_had_in_format_2_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    create(
        *(path, "0001_initial.sql", "0002_v1.sql"),
        added=COLUMNS_OF_EARLIER_CLONES,
        rows=ROWS_OF_EARLIER_CLONES,
    )

    async with opened(path) as store:
        queues = await store.queues()
        [attempt] = await store.attempts("done")

    assert queues["mail"].overrides.concurrency == 3
    assert queues["mail"].declared == QueueOverrides(concurrency=4)
    assert attempt.cause == Cause.TIMEOUT
    assert verify_store(DataFolder(tmp_path), lambda *_: None).problems == []


async def test_only_missing_columns_of_format_3_are_added(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    added = "ALTER TABLE queues ADD COLUMN declared TEXT;"
    create(path, "0001_initial.sql", "0002_v1.sql", added=added, rows="")

    async with opened(path) as store:
        await store.add(Task(id="new", url=URL, created_at=NOW, run_at=NOW, due_at=NOW))
        await end(store, await lease_one(store), Complete())

        assert (await known(store, "new")).state is TaskState.SUCCEEDED
