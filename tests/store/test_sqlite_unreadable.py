from __future__ import annotations

import json
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from poussetaches.core.changes import NO_CHANGES
from poussetaches.core.edits import Cancel, Delete, Patch
from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import DAY, ClockRecord, Moment
from poussetaches.core.queue import BucketRecord, Lane, Queue, QueueOverrides
from poussetaches.core.responses import QueueCounts
from poussetaches.core.task import Complete, DeliveryForm, RetryAt, TaskState
from poussetaches.store import verify_store
from poussetaches.store.base import Push
from poussetaches.store.folder import DataFolder
from poussetaches.store.minute_row import MinuteRow
from poussetaches.store.runner import ThreadRunner
from poussetaches.store.sqlite import SqliteStore, database_session, rows
from tests.factories import NOW, make_schedule, make_task, seeded
from tests.store.driving import (
    LANE,
    assert_counts_are_true,
    counts_of,
    edit_all,
    end,
    finish_of,
    found_by,
    ids_of,
    known,
    lease_all,
    listed,
    numbers_of,
    put_schedule,
)
from tests.store.sqlite_files import FULL, Disk, opened, raw

MAIL = Queue(name="mail", overrides=QueueOverrides(rate=1.0), configured=True)

# Values that SQLite's checks accept but that are not a valid task.
GARBAGE = [
    pytest.param("headers = '{'", id="headers cut off"),
    pytest.param("headers = '[1]'", id="headers of another type"),
    pytest.param("expected = '\"2xx\"'", id="expected of another type"),
    pytest.param("url = 'ftp://app/'", id="URL that cannot be sent to"),
    pytest.param("url = ''", id="no URL"),
    pytest.param("url = CAST(x'ff68' AS TEXT)", id="URL that is not UTF-8"),
    pytest.param("method = CAST(x'ff' AS TEXT)", id="method that is not UTF-8"),
    pytest.param("id = CAST(x'62ff' AS TEXT)", id="id that is not UTF-8"),
    pytest.param("reason = 'bored'", id="unknown reason"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """Return a store with the tasks a, b and c, in one lane."""
    async with opened(path) as store:
        for id in "abc":
            await store.add(make_task(id, delivery=DeliveryForm.ENVELOPE))
        yield store


def change_rows(path: Path, change: str, where: str = "id = 'b'", *, table: str = "tasks") -> None:
    """Change rows without the store."""
    with closing(raw(path)) as database:
        changed = database.execute(f"UPDATE {table} SET {change} WHERE {where}").rowcount  # noqa: S608
    assert changed, f"no {table} {where}"


def set_aside(path: Path) -> list[tuple[str, dict[str, object]]]:
    """Return the rows set aside, with their table."""
    with closing(raw(path)) as database:
        rows = database.execute("SELECT origin_table, content FROM unreadable").fetchall()
    return [(table, json.loads(content)) for table, content in rows]


@pytest.mark.parametrize("change", GARBAGE)
async def test_tasks_around_an_unreadable_one_are_leased(
    store: SqliteStore, path: Path, change: str
) -> None:
    change_rows(path, change)

    leases = await lease_all(store)

    assert list(leases) == ["a", "c"]
    assert store.unreadable_count == 1
    assert await counts_of(store) == {"default": QueueCounts(running=2)}
    assert await store.next_due() == {}


async def test_leases_reach_their_caller_though_an_unreadable_row_cannot_be_set_aside(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    change_rows(path, "headers = '{'")
    monkeypatch.setattr(database_session, "set_aside", fail)

    leases = await lease_all(store)

    assert list(leases) == ["a", "c"]
    assert (store.internal_error_count, store.unreadable_count) == (1, 0)
    assert await store.give_back(leases["a"], now=NOW)
    assert list(await lease_all(store)) == ["a"]


async def test_task_is_not_set_aside_for_lack_of_memory(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable, match="out of memory"):
        patch.setattr(rows, "check_stored_url", fail)
        await lease_all(store)

    assert list(await lease_all(store)) == ["a", "b", "c"]
    assert store.unreadable_count == 0


@pytest.mark.parametrize("change", GARBAGE)
async def test_tasks_around_an_unreadable_one_are_listed(
    store: SqliteStore, path: Path, change: str
) -> None:
    change_rows(path, change)

    found = await listed(store, TaskState.WAITING, limit=2)

    assert ids_of(found) == ["a", "c"]
    assert store.unreadable_count == 1
    assert await counts_of(store) == {"default": QueueCounts(waiting=2)}


async def test_unreadable_task_is_not_found(store: SqliteStore, path: Path) -> None:
    change_rows(path, "headers = '{'")

    found = await store.get("b")

    assert found is None
    assert store.unreadable_count == 1
    assert await store.attempts("b") == []


async def test_unreadable_row_is_kept_unchanged_with_its_reason(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change_rows(path, "url = CAST(x'ff68' AS TEXT), body = x'00ff', priority = 7")

    await store.get("b")

    [(table, content)] = set_aside(path)
    assert table == "tasks"
    assert {name: content[name] for name in ("id", "url", "body", "priority", "run_at")} == {
        "id": "b",
        "url": "ff68",
        "body": "00ff",
        "priority": 7,
        "run_at": NOW,
    }
    [logged] = caplog.records
    assert (logged.levelno, logged.message) == (logging.ERROR, "unreadable row set aside")
    assert {"table": "tasks", "row": 2}.items() <= logged.__dict__.items()
    assert "Could not decode to UTF-8" in logged.__dict__["reason"]


async def test_unreadable_row_is_set_aside_once(store: SqliteStore, path: Path) -> None:
    change_rows(path, "headers = '{'")

    for _ in range(3):
        await store.get("b")
        await lease_all(store)

    assert store.unreadable_count == 1
    assert len(set_aside(path)) == 1


async def test_failing_task_set_aside_is_no_longer_counted(store: SqliteStore, path: Path) -> None:
    leases = await lease_all(store)
    await end(store, leases["b"], RetryAt(NOW))
    await end(store, leases["c"], Complete())
    change_rows(path, "headers = '{'", "id IN ('b', 'c')")

    await store.get("b")
    await store.get("c")

    assert await counts_of(store) == {"default": QueueCounts(running=1)}
    with closing(raw(path)) as database:
        assert database.execute("SELECT count(*) FROM attempts").fetchone() == (0,)


async def test_many_unreadable_tasks_do_not_hide_a_good_one(
    store: SqliteStore, path: Path
) -> None:
    change_rows(path, "headers = '{'", "id IN ('a', 'b')")

    first = await store.lease_due({LANE: 1}, now=NOW)
    again = await store.lease_due({LANE: 1}, now=NOW)

    # Either call may find it, but the first must ask for the second.
    found = [lease.task.id for leased in (first, again) for lease in leased.leases]
    assert found == ["c"]
    assert first.leases or first.next_due == {LANE: NOW}
    assert again.next_due == {LANE: None}


async def test_task_after_an_unreadable_one_is_not_confused_with_it(
    store: SqliteStore, path: Path
) -> None:
    change_rows(path, "headers = '{'", "id = 'c'")
    await lease_all(store)

    await store.add(make_task("d"))

    assert list(await lease_all(store)) == ["d"]


async def test_running_task_that_has_become_unreadable_loses_its_lease(
    store: SqliteStore, path: Path
) -> None:
    lease = (await lease_all(store))["b"]
    change_rows(path, "headers = '{'")
    await store.get("b")

    was_ours = await end(store, lease, RetryAt(NOW))

    assert was_ours is False
    assert await counts_of(store) == {"default": QueueCounts(running=2)}


async def test_unreadable_attempts_do_not_affect_their_task(
    store: SqliteStore, path: Path
) -> None:
    lease = (await lease_all(store))["b"]
    await store.finish([finish_of(lease, RetryAt(Moment(NOW - 1)), error="reset")], now=NOW)
    change_rows(path, "error = CAST(x'ff' AS TEXT)", "TRUE", table="attempts")

    found = await listed(store, TaskState.WAITING)

    assert ids_of(found) == ["b", "a", "c"]
    assert (found[0].last_attempt, found[0].last_failure) == (None, None)
    assert await store.attempts("b") == []
    assert (await known(store, "b")).attempt_count == 1
    assert [(table, content["error"]) for table, content in set_aside(path)] == [
        ("attempts", "ff")
    ]
    await assert_counts_are_true(store, list("abc"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("task = '{}'", id="no task"),
        pytest.param("task = CAST(x'ff' AS TEXT)", id="task that is not UTF-8"),
        pytest.param("cron = CAST(x'ff' AS TEXT)", id="expression that is not UTF-8"),
    ],
)
async def test_schedules_around_an_unreadable_one_are_due(
    store: SqliteStore, path: Path, change: str
) -> None:
    for name in "stu":
        await put_schedule(store, make_schedule(name))
    change_rows(path, change, "name = 't'", table="schedules")

    due = await store.due_schedules(NOW)

    assert [schedule.name for schedule in due] == ["s", "u"]
    assert [schedule.name for schedule in await store.schedules("original")] == ["s", "u"]
    assert store.unreadable_count == 1
    assert [(table, content["name"]) for table, content in set_aside(path)] == [("schedules", "t")]


async def test_unreadable_row_on_a_full_disk_blocks_nothing(path: Path) -> None:
    disk = Disk()
    async with opened(path, disk=disk) as store:
        for id in "abc":
            await store.add(make_task(id))
        change_rows(path, "headers = '{'")
        disk.error = FULL

        leases = await lease_all(store)
        disk.error = None
        await store.recover()
        later = await store.get("b")

        assert list(leases) == ["a", "c"]
        assert later is None
        assert store.unreadable_count == 1


async def test_rows_set_aside_earlier_are_logged_when_the_store_opens(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as store:
        await store.add(make_task("b"))
        change_rows(path, "headers = '{'")
        await store.get("b")
    caplog.clear()

    async with opened(path) as store:
        assert store.unreadable_count == 0

    assert [(r.levelno, r.message) for r in caplog.records] == [
        (logging.WARNING, "unreadable rows were set aside earlier")
    ]
    assert {"count": 1, "table": "unreadable"}.items() <= caplog.records[0].__dict__.items()


async def test_unreadable_row_is_set_aside_from_either_thread(path: Path) -> None:
    store = SqliteStore(
        path,
        writer=ThreadRunner("writer"),
        reader=ThreadRunner("reader"),
        now=lambda: NOW,
        random=seeded(),
    )
    await store.open()
    for id in "abcd":
        await store.add(make_task(id, delivery=DeliveryForm.ENVELOPE))
    change_rows(path, "headers = '{'", "id IN ('b', 'c')")

    found = await store.get("b")
    leases = await lease_all(store)

    assert found is None
    assert list(leases) == ["a", "d"]
    assert store.unreadable_count == 2
    await store.close()


async def test_task_with_an_unreadable_attempt_is_still_leased(
    store: SqliteStore, path: Path
) -> None:
    await end(store, (await lease_all(store))["b"], RetryAt(NOW))
    change_rows(path, "error = CAST(x'ff' AS TEXT)", "ordinal = 1", table="attempts")
    await store.attempts("b")

    assert "b" in await lease_all(store)


@pytest.mark.parametrize("change", GARBAGE[2:])  # a list does not read the headers
async def test_tasks_around_an_unreadable_one_are_found(
    store: SqliteStore, path: Path, change: str
) -> None:
    change_rows(path, change)

    found = await found_by(store, TaskFilter(queue="default"), limit=2)

    assert found == ["c", "a"]
    assert store.unreadable_count == 1
    assert await numbers_of(store, TaskFilter()) == [3, 1]


@pytest.mark.parametrize("change", [*GARBAGE, pytest.param("labels = '['", id="labels")])
async def test_tasks_around_an_unreadable_one_are_edited(
    store: SqliteStore, path: Path, change: str
) -> None:
    numbers = await numbers_of(store, TaskFilter())
    change_rows(path, change)

    edited = await edit_all(store, numbers, Cancel(NOW))

    assert edited == (2, {"changed": 1})
    assert store.unreadable_count == 1
    assert await counts_of(store) == {"default": QueueCounts(dead=2)}


async def test_unreadable_task_is_set_aside_when_it_is_edited(
    store: SqliteStore, path: Path
) -> None:
    change_rows(path, 'retry = \'{"max_attempts": "0"}\'')

    found = await store.edit("b", Patch(NO_CHANGES), now=NOW)

    assert found is None
    assert store.unreadable_count == 1
    assert [content["id"] for _, content in set_aside(path)] == ["b"]


async def test_expired_unreadable_task_is_set_aside(store: SqliteStore, path: Path) -> None:
    change_rows(path, "url = '', expires_at = 1")
    change_rows(path, "expires_at = 1", "id = 'c'")

    await store.expire(now=NOW, limit=10)

    assert store.unreadable_count == 1
    assert await counts_of(store) == {"default": QueueCounts(waiting=1, dead=1)}


async def test_unreadable_schedule_is_set_aside_before_it_is_replaced(
    store: SqliteStore, path: Path
) -> None:
    await put_schedule(store, make_schedule("s"))
    change_rows(path, "task = '{}'", "name = 's'", table="schedules")

    is_new = await put_schedule(store, make_schedule("s"))

    assert is_new is True
    assert await store.schedule("s") == make_schedule("s")
    assert [(table, content["task"]) for table, content in set_aside(path)] == [
        ("schedules", "{}")
    ]


async def test_unreadable_task_is_not_a_duplicate_of_another(path: Path) -> None:
    async with opened(path) as store:
        await store.push([Push(task=make_task("b", unique="u"))], now=NOW)
        change_rows(path, "headers = '{'")

        [pushed] = await store.push([Push(task=make_task("c", unique="u"))], now=NOW)

        assert pushed.existing is False
        assert store.unreadable_count == 1
        await assert_counts_are_true(store, ["b", "c"])


@pytest.mark.parametrize(
    "settings", ["{", '{"rate": -1}', '{"burst": "1"}', "\udcff"], ids=range(4)
)
async def test_queue_with_unreadable_settings_does_not_stop_the_start(
    path: Path, settings: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as store:
        await store.edit_queue("mail", lambda _: Queue(name="mail", paused=True))
    with closing(raw(path)) as database:
        blob = settings.encode("utf-8", "surrogateescape")
        database.execute(
            "UPDATE queues SET settings = CAST(? AS TEXT) WHERE name = 'mail'", [blob]
        )

    async with opened(path) as store:
        queues = await store.queues()
        await store.edit_queue("mail", lambda queue: queue and MAIL)

    assert queues["mail"] == Queue(name="mail", paused=True)
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    async with opened(path) as store:
        assert (await store.queues())["mail"] == MAIL


@pytest.mark.parametrize("column", ["queue", "origin"])
async def test_unreadable_lane_prevents_neither_the_start_nor_other_lanes(
    path: Path, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    mail = Lane("mail", LANE.origin)
    async with opened(path) as store:
        await store.add(make_task("a"))
        await store.add(make_task("b", queue="mail"))
    change_rows(path, f"{column} = CAST(x'ff' AS TEXT)", "queue = 'mail'", table="lanes")

    async with opened(path) as store:
        next_due = await store.next_due()
        used = await store.lanes_used_since(Moment(NOW - 1))
        await store.add(make_task("c", queue="mail"))
        leased = await store.lease_due({LANE: 9, mail: 9}, now=NOW)
        await store.edit("b", Delete(), now=NOW)
        await store.tidy(now=Moment(NOW + 3 * DAY), limit=10)

    assert (list(next_due), used) == ([LANE], [LANE])
    assert [lease.task.id for lease in leased.leases] == ["a", "c"]
    assert "lane cannot be read: its tasks are not sent" in caplog.messages
    problems = verify_store(DataFolder(path.parent), lambda *_: None).problems
    assert "lanes cannot be read, so their tasks are not sent" in [each.what for each in problems]


@pytest.mark.parametrize("value", ["'{'", "'[1]'", "CAST(x'ff' AS TEXT)"])
async def test_unreadable_value_of_the_table_server_is_ignored(path: Path, value: str) -> None:
    async with opened(path) as store:
        await store.keep_clock(ClockRecord(boot_id="b", seen=NOW, confirmed=NOW, highest=None))
        good = BucketRecord(boot_id="b", full_at_uptime=1, full_at=Moment(NOW + 1))
        await store.keep_buckets({"bad": good, "good": good})
    change_rows(path, f"value = {value}", "name IN ('clock', 'bucket:bad')", table="server")

    async with opened(path) as store:
        found = (await store.clock(), await store.buckets())
        tidied = await store.tidy(now=NOW, limit=10)

        assert found == (None, {"good": good})
        assert tidied == 1


async def fill(path: Path) -> None:
    """Make a store with a row in every table that has texts."""
    async with opened(path) as store:
        await store.add(make_task("a"))
        mail = make_task("b", queue="mail", labels={"x": "y"}, key="k", unique="u")
        await store.push([Push(task=mail)], now=NOW)
        await store.edit_queue("mail", lambda _: MAIL)
        await end(store, (await lease_all(store))["b"], RetryAt(NOW))
        await put_schedule(store, make_schedule("s"))
        await store.replace_schedules("owner", 1, [make_schedule("o", owner="owner")], now=NOW)
        await store.put_minutes([MinuteRow(queue="mail", minute=NOW, pushed=1)])
        await store.keep_clock(ClockRecord(boot_id="b", seen=NOW, confirmed=NOW, highest=None))


async def use(path: Path) -> None:
    """Use a store as a server does."""
    mail = Lane("mail", LANE.origin)
    async with opened(path) as store:
        await store.next_due()
        await store.lanes_used_since(Moment(NOW - 1))
        await store.clock()
        await store.buckets()
        await store.counts()
        await store.minutes("mail", since=Moment(0))
        await store.due_schedules(NOW)
        await store.stranded_schedules(Moment(NOW - 1))
        await store.schedules(None)
        await store.latest_runs(["s"])
        await store.failures(TaskState.WAITING)
        await store.tasks(TaskFilter(), after=None, limit=10)
        await store.attempts("b")
        await store.lease_due({LANE: 9, mail: 9}, now=NOW)
        await store.push([Push(task=make_task("c", queue="mail", key="k"))], now=NOW)
        await store.edit_queue("mail", lambda _: MAIL)
        await store.expire(now=NOW, limit=10)
        await store.tidy(now=Moment(NOW + 3 * DAY), limit=10)
        assert store.trouble is None


async def test_text_that_is_not_utf8_affects_no_other_row(
    tmp_path: Path,
) -> None:
    good = tmp_path / "good.db"
    await fill(good)
    with closing(raw(good)) as database:
        columns = database.execute(
            "SELECT tables.name, columns.name FROM pragma_table_list AS tables, "
            "pragma_table_info(tables.name) AS columns "
            "WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite%' "
            "AND columns.type = 'TEXT'"
        ).fetchall()
    failed = {}
    for table, column in columns:
        path = tmp_path / f"{table}-{column}.db"
        shutil.copy(good, path)
        with closing(raw(path)) as database:
            database.execute("PRAGMA ignore_check_constraints = 1")
            last = f"{column} = (SELECT max({column}) FROM {table})"  # noqa: S608
            database.execute(f"UPDATE {table} SET {column} = CAST(x'ff' AS TEXT) WHERE {last}")  # noqa: S608
        try:
            await use(path)
        except Exception as exc:
            failed[f"{table}.{column}"] = str(exc)

    assert len(columns) > 40
    assert failed == {}
