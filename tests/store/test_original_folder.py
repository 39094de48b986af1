from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from poussetaches.core.errors import CannotOpenStore, StoreUnavailable
from poussetaches.core.moment import HOUR, MINUTE, SECOND, Moment
from poussetaches.core.schedule import Schedule, latest_occurrence, next_occurrence
from poussetaches.core.task import Attempt, DeliveryForm, Reason, Task, TaskState
from poussetaches.store import original_folder
from poussetaches.store.base import Store
from poussetaches.store.original_folder import TakeOver
from poussetaches.store.sqlite.transaction import Step
from tests.factories import NOW, URL
from tests.store.driving import assert_counts_are_true, known, lease_all
from tests.store.faults import Faults
from tests.store.sqlite_files import FULL, Disk, opened

LATER = Moment(NOW + HOUR)
EARLIER = Moment(NOW - HOUR)
SHA1 = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with opened(None) as store:
        yield store


def write(folder: Path, where: str, id: str = "a", **overrides: object) -> Path:
    """Write a task as Go's encoding/json does: bytes in base64, no bytes as null."""
    values: dict[str, object] = {
        "id": id,
        "url": URL,
        "payload": None,
        "expected": 200,
        "schedule": "",
        "next_scheduled_run": LATER * 1000,
        "next_run": LATER * 1000,
        "tries": 0,
        "last_run": 0,
        "last_error_body": None,
        "last_error_status_code": 0,
        **overrides,
    }
    for key, value in values.items():
        if isinstance(value, bytes):
            values[key] = base64.b64encode(value).decode()
    return put(folder, where, id, json.dumps(values, separators=(",", ":")).encode())


def put(folder: Path, where: str, name: str, content: bytes) -> Path:
    path = folder / where / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


async def import_folder(folder: Path, store: Store) -> TakeOver:
    return await original_folder.take_over(folder, store, now=NOW)


async def imported_task(
    folder: Path, store: Store, id: str = "a"
) -> tuple[Task, Sequence[Attempt]]:
    await import_folder(folder, store)
    return await known(store, id), await store.attempts(id)


async def imported_schedule(folder: Path, store: Store) -> Schedule:
    await import_folder(folder, store)
    [schedule] = await store.schedules("original")
    return schedule


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def expected_task(**overrides: object) -> Task:
    values: dict[str, object] = {
        "id": "a",
        "url": URL,
        "created_at": NOW,
        "run_at": LATER,
        "due_at": LATER,
        "delivery": DeliveryForm.ENVELOPE,
        "expected": (200,),
        **overrides,
    }
    return Task(**values)  # type: ignore[arg-type]  # as the test names them


def expected_attempt(number: int, **overrides: object) -> Attempt:
    values: dict[str, object] = {
        "round": 1,
        "number": number,
        "request_id": "",
        "started_at": EARLIER,
        "duration": 0.0,
        "succeeded": False,
        **overrides,
    }
    return Attempt(**values)  # type: ignore[arg-type]  # as the test names them


async def test_task_without_an_attempt_waits_unchanged(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "waiting", payload=b"\xff{}", expected=201)

    task, attempts = await imported_task(tmp_path, store)

    assert task == expected_task(body=b"\xff{}", expected=(201,))
    assert attempts == []


async def test_null_payload_is_an_empty_body(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "waiting", payload=None)

    task, _ = await imported_task(tmp_path, store)

    assert task.body == b""


async def test_expected_zero_is_200(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "waiting", expected=0)

    task, _ = await imported_task(tmp_path, store)

    assert task.expected == (200,)


async def test_file_of_an_early_version_is_imported(store: Store, tmp_path: Path) -> None:
    """It had no schedules, and did not store the time of the last run."""
    early = {"id": "a", "url": URL, "payload": None, "expected": 200, "next_run": LATER * 1000}
    put(tmp_path, "waiting", "a", json.dumps(early).encode())

    task, attempts = await imported_task(tmp_path, store)

    assert (task, attempts) == (expected_task(), [])


@pytest.mark.parametrize(
    ("code", "body", "last", "attempt"),
    [
        pytest.param(
            *(503, b"n\xff", (503, None), {"status": 503, "response_body": b"n\xff"}),
            id="an answer",
        ),
        pytest.param(404, None, (404, None), {"status": 404}, id="an answer without a body"),
        pytest.param(
            *(-1, "réset".encode(), (None, "réset"), {"error": "réset"}), id="no connection"
        ),
        pytest.param(
            *(-1, b"a\xff", (None, "a\ufffd"), {"error": "a\ufffd"}),
            id="an error that is not UTF-8",
        ),
        pytest.param(
            *(-1, None, (None, "connection error"), {"error": "connection error"}),
            id="an error without a text",
        ),
        pytest.param(0, None, (None, None), {}, id="nothing is known"),
    ],
)
async def test_last_failed_attempt_of_a_waiting_task_is_imported(
    store: Store,
    tmp_path: Path,
    *,
    code: int,
    body: bytes | None,
    last: tuple[int | None, str | None],
    attempt: dict[str, object],
) -> None:
    write(
        *(tmp_path, "waiting"),
        next_scheduled_run=EARLIER * 1000,
        tries=3,
        last_run=EARLIER * 1000,
        last_error_status_code=code,
        last_error_body=body,
    )

    task, attempts = await imported_task(tmp_path, store)

    assert task == expected_task(
        due_at=EARLIER,
        attempt_count=3,
        attempt_total=3,
        last_status=last[0],
        last_error=last[1],
    )
    assert attempts == [expected_attempt(3, **attempt)]


async def test_due_task_continues_after_its_last_attempt(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "waiting", next_run=NOW * 1000, tries=3, last_error_status_code=500)
    await import_folder(tmp_path, store)

    leases = await lease_all(store)

    assert leases["a"].task.attempt_count == 3


async def test_dead_task_ends_at_the_import(store: Store, tmp_path: Path) -> None:
    write(
        *(tmp_path, "dead"),
        tries=11,
        last_run=EARLIER * 1000,
        last_error_status_code=500,
        last_error_body=b"no",
    )

    task, attempts = await imported_task(tmp_path, store)

    assert task == expected_task(
        state=TaskState.DEAD,
        reason=Reason.EXHAUSTED,
        ended_at=NOW,
        attempt_count=11,
        attempt_total=11,
        last_status=500,
    )
    assert attempts == [expected_attempt(11, status=500, response_body=b"no")]


async def test_succeeded_task_keeps_its_last_two_attempts(store: Store, tmp_path: Path) -> None:
    write(
        *(tmp_path, "success"),
        expected=204,
        tries=3,
        last_run=EARLIER * 1000,
        last_error_status_code=500,
        last_error_body=b"no",
    )

    task, attempts = await imported_task(tmp_path, store)

    assert task == expected_task(
        expected=(204,),
        state=TaskState.SUCCEEDED,
        ended_at=NOW,
        attempt_count=3,
        attempt_total=3,
        last_status=204,
    )
    assert attempts == [
        expected_attempt(2, status=500, response_body=b"no"),
        expected_attempt(3, succeeded=True, status=204),
    ]


async def test_task_that_succeeded_at_once_has_one_attempt(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "success", tries=1, last_run=EARLIER * 1000)

    _, attempts = await imported_task(tmp_path, store)

    assert attempts == [expected_attempt(1, succeeded=True, status=200)]


async def test_ended_run_of_a_schedule_names_it(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "success", SHA1, schedule="@every 1h", tries=1)
    write(tmp_path, "waiting", SHA1, schedule="@every 1h")

    taken = await import_folder(tmp_path, store)

    assert (await known(store, SHA1)).schedule == SHA1
    assert taken == TakeOver(succeeded=1, schedules=1)


@pytest.mark.parametrize(
    ("nanoseconds", "moment"),
    [
        pytest.param(1_000, 1, id="whole microsecond"),
        pytest.param(1_001, 2, id="rounded up"),
        pytest.param(-1, 0, id="before 1970"),
        pytest.param(10**24, 2**63 // 1000 + 1, id="after the year 9999"),
    ],
)
async def test_time_becomes_a_moment(
    store: Store, tmp_path: Path, nanoseconds: int, moment: int
) -> None:
    write(tmp_path, "waiting", next_run=nanoseconds)

    task, _ = await imported_task(tmp_path, store)

    assert task.run_at == moment


async def test_negative_tries_are_no_attempts(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "waiting", tries=-3, last_error_status_code=500)

    task, attempts = await imported_task(tmp_path, store)

    assert (task.attempt_count, attempts) == (0, [])


async def test_ended_task_is_not_also_waiting(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "waiting")
    write(tmp_path, "dead", tries=11)

    taken = await import_folder(tmp_path, store)

    assert taken == TakeOver(dead=1, skipped=1)
    assert (await known(store, "a")).state is TaskState.DEAD


async def test_counts_report_the_imported_files(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for where, ids in {"waiting": "abc", "success": "de", "dead": "f"}.items():
        for id in ids:
            write(tmp_path, where, id, tries=1, last_error_status_code=500)
    write(tmp_path, "waiting", SHA1, schedule="@hourly")
    put(tmp_path, "dead", "broken", b"")
    caplog.set_level(logging.INFO)

    taken = await import_folder(tmp_path, store)

    assert taken == TakeOver(waiting=3, succeeded=2, dead=1, schedules=1, broken=1)
    await assert_counts_are_true(store, list("abcdef"))
    summary = caplog.records[-1]
    assert summary.message == "tasks of the original taken over"
    assert {"waiting": 3, "broken": 1, "skipped": 0}.items() <= vars(summary).items()


async def test_many_files_are_imported_in_slices(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(original_folder, "SLICE", 2)
    for id in "abcde":
        write(tmp_path, "waiting", id)

    taken = await import_folder(tmp_path, store)

    assert taken == TakeOver(waiting=5)


async def test_scheduled_task_becomes_a_schedule(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "waiting", SHA1, schedule="@every 90m", payload=b"{}", expected=201)

    schedule = await imported_schedule(tmp_path, store)

    assert schedule == Schedule(
        name=SHA1,
        owner="original",
        cron="@every 90m",
        task=expected_task(id=SHA1, body=b"{}", expected=(201,)),
        created_at=NOW,
        anchor_at=Moment(LATER - 90 * MINUTE),
        next_run_at=LATER,
    )
    assert await store.get(SHA1) is None


@pytest.mark.parametrize("cron", ["@every 1h", "@hourly", "0 */5 * * * *"])
async def test_schedule_continues_at_its_planned_run(
    store: Store, tmp_path: Path, cron: str
) -> None:
    planned = next_occurrence(cron, anchor=Moment(0), after=LATER)
    assert planned is not None
    write(tmp_path, "waiting", SHA1, schedule=cron, next_scheduled_run=planned * 1000)

    schedule = await imported_schedule(tmp_path, store)

    assert (schedule.cron, schedule.next_run_at) == (cron, planned)
    first = next_occurrence(cron, anchor=schedule.anchor_at, after=schedule.anchor_at)
    assert first == planned


async def test_five_fields_keep_their_meaning(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The original's fields begin with the second."""
    write(tmp_path, "waiting", SHA1, schedule="*/5 * * * *")

    schedule = await imported_schedule(tmp_path, store)

    assert (schedule.name, schedule.cron) == (SHA1, "*/5 * * * * *")
    after = next_occurrence(schedule.cron, anchor=schedule.anchor_at, after=LATER)
    assert after == LATER + 5 * SECOND
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert {
        "schedule": SHA1,
        "was": "*/5 * * * *",
        "cron": "*/5 * * * * *",
    }.items() <= vars(record).items()


async def test_missed_runs_of_a_schedule_become_one(store: Store, tmp_path: Path) -> None:
    missed = Moment(NOW - 25 * HOUR - MINUTE)
    write(tmp_path, "waiting", SHA1, schedule="@every 1h", next_scheduled_run=missed * 1000)

    schedule = await imported_schedule(tmp_path, store)

    assert await store.due_schedules(NOW) == [schedule]
    assert latest_occurrence(schedule, now=NOW) == NOW - MINUTE


async def test_run_that_was_being_retried_is_due(store: Store, tmp_path: Path) -> None:
    write(
        *(tmp_path, "waiting", SHA1),
        schedule="@every 2h",
        tries=2,
        last_error_status_code=500,
        next_scheduled_run=EARLIER * 1000,
        next_run=LATER * 1000,
    )

    schedule = await imported_schedule(tmp_path, store)

    assert schedule.next_run_at == EARLIER
    assert (
        next_occurrence(schedule.cron, anchor=schedule.anchor_at, after=NOW) == EARLIER + 2 * HOUR
    )


@pytest.mark.parametrize(
    ("scheduled", "next_run", "expected"),
    [
        pytest.param(0, LATER, LATER, id="next run"),
        pytest.param(0, 0, LATER, id="from now on"),
    ],
)
async def test_schedule_without_a_planned_run_takes(
    store: Store, tmp_path: Path, scheduled: int, next_run: int, expected: Moment
) -> None:
    write(
        *(tmp_path, "waiting", SHA1),
        schedule="@every 1h",
        next_scheduled_run=scheduled,
        next_run=next_run * 1000,
    )

    schedule = await imported_schedule(tmp_path, store)

    assert (schedule.next_run_at, schedule.anchor_at) == (expected, expected - HOUR)


def task_json(**overrides: object) -> bytes:
    return json.dumps({"id": "x", "url": URL, **overrides}).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b'{"id": "x", "ur', "Input data was truncated", id="cut off"),
        pytest.param(b"\x00" * 100, "JSON is malformed", id="zeros"),
        pytest.param(b"[]", "Expected `object`", id="another type"),
        pytest.param(b'{"id": "\xff"}', "can't decode byte 0xff", id="not UTF-8"),
        pytest.param(b'{"x":' + b"[" * 100_000, "recursion", id="nested deeply"),
        pytest.param(b'{"id": "x"}', "missing required field `url`", id="no URL"),
        pytest.param(task_json(id=""), "at `$.id`", id="empty id"),
        pytest.param(task_json(id="x\ny"), "at `$.id`", id="id of two lines"),
        pytest.param(task_json(tries="1"), "at `$.tries`", id="text for a number"),
        pytest.param(task_json(tries=2**40), "at `$.tries`", id="tries too many to count"),
        pytest.param(task_json(next_run=1.5), "at `$.next_run`", id="broken nanosecond"),
        pytest.param(task_json(payload="%%%%"), "Invalid base64", id="payload"),
        pytest.param(task_json(last_error_body="YQ"), "Invalid base64", id="base64 cut off"),
        pytest.param(task_json(url="ftp://app/"), "url: must begin with http", id="URL"),
        pytest.param(task_json(url="http://u:p[w@app/"), "percent-encoded", id="odd password"),
        pytest.param(task_json(schedule="often"), "is not a schedule", id="schedule"),
        pytest.param(task_json(schedule="0 0 0 30 2 *"), "never matches", id="30 February"),
        pytest.param(task_json(schedule="@every 1ms"), "whole seconds", id="too often"),
    ],
)
async def test_broken_file_is_set_aside(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, reason: str
) -> None:
    put(tmp_path, "waiting", "x", content)
    write(tmp_path, "waiting", "y")

    taken = await import_folder(tmp_path, store)

    assert taken == TakeOver(waiting=1, broken=1)
    assert (tmp_path / "original" / "broken" / "waiting-x").read_bytes() == content
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert vars(record)["file"] == "waiting/x"
    assert reason in vars(record)["error"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("folder", "not a regular file"),
        ("pipe", "not a regular file"),
        ("link to nothing", "No such file or directory"),
        ("link to itself", "Too many levels of symbolic links"),
    ],
)
async def test_folder_in_place_of_a_file_is_set_aside(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, reason: str
) -> None:
    path = write(tmp_path, "dead", "y").with_name("x")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nothing" if kind == "link to nothing" else "x")

    taken = await import_folder(tmp_path, store)

    assert taken == TakeOver(dead=1, broken=1)
    assert names_in(tmp_path / "original" / "broken") == ["dead-x"]
    assert vars(caplog.records[0])["error"] == reason


async def test_broken_file_that_cannot_be_moved_is_moved_with_its_folder(
    store: Store, tmp_path: Path
) -> None:
    name = "x" * 255  # with the name of its folder before it, too long
    put(tmp_path, "waiting", name, b"")

    await import_folder(tmp_path, store)

    assert files_in(tmp_path) == [f"original/waiting/{name}"]


async def test_broken_files_of_one_name_are_all_kept(store: Store, tmp_path: Path) -> None:
    for content in (b"", b"{", b"["):
        put(tmp_path, "waiting", "x", content)
        await import_folder(tmp_path, store)

    broken = tmp_path / "original" / "broken"
    assert {path.name: path.read_bytes() for path in broken.iterdir()} == {
        "waiting-x": b"",
        "waiting-x-2": b"{",
        "waiting-x-3": b"[",
    }


async def test_files_end_up_below_original(store: Store, tmp_path: Path) -> None:
    for where, id in [("waiting", "a"), ("success", "b"), ("dead", "c")]:
        write(tmp_path, where, id)

    await import_folder(tmp_path, store)

    assert files_in(tmp_path) == ["original/dead/c", "original/success/b", "original/waiting/a"]
    assert names_in(tmp_path) == ["original"]


async def test_later_import_keeps_the_files_of_an_earlier_one(
    store: Store, tmp_path: Path
) -> None:
    for id in "abc":
        write(tmp_path, "waiting", id)
        await import_folder(tmp_path, store)

    assert files_in(tmp_path) == [
        "original/waiting-2/b",
        "original/waiting-3/c",
        "original/waiting/a",
    ]
    await assert_counts_are_true(store, list("abc"))


async def test_empty_folders_are_set_aside_too(store: Store, tmp_path: Path) -> None:
    (tmp_path / "waiting").mkdir()
    (tmp_path / "original" / "waiting").mkdir(parents=True)

    taken = await import_folder(tmp_path, store)

    assert taken == TakeOver()
    assert names_in(tmp_path / "original") == ["waiting", "waiting-2"]


@pytest.mark.parametrize("exists", [True, False])
async def test_folder_without_tasks_of_the_original_is_not_changed(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, exists: bool
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "data"
    if exists:
        folder.mkdir()
        (folder / "waiting").write_text("a file of somebody else")

    taken = await import_folder(folder, store)

    assert taken == TakeOver()
    assert files_in(tmp_path) == (["data/waiting"] if exists else [])
    assert caplog.records == []


async def test_kill_before_setting_aside_duplicates_nothing(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "waiting", "a", tries=2, last_error_status_code=500)
    write(tmp_path, "success", "b", tries=1)
    write(tmp_path, "waiting", SHA1, schedule="@every 1h")
    (tmp_path / "original").write_text("in the way")
    with pytest.raises(CannotOpenStore):
        await import_folder(tmp_path, store)
    before = [await known(store, id) for id in "ab"], await store.schedules("original")
    (tmp_path / "original").unlink()

    taken = await original_folder.take_over(tmp_path, store, now=LATER)

    assert taken == TakeOver(skipped=3)
    assert ([await known(store, id) for id in "ab"], await store.schedules("original")) == before
    assert len(await store.attempts("a")) == 1
    await assert_counts_are_true(store, ["a", "b"])
    assert not (tmp_path / "waiting").exists()


async def test_rest_is_imported_after_a_kill_between_two_commits(
    store: Store, tmp_path: Path
) -> None:
    write(tmp_path, "waiting", "a")
    await import_folder(tmp_path, store)
    (tmp_path / "original" / "waiting").rename(tmp_path / "waiting")
    write(tmp_path, "waiting", "b")
    write(tmp_path, "waiting", SHA1, schedule="@every 1h")

    taken = await import_folder(tmp_path, store)

    assert taken == TakeOver(waiting=1, schedules=1, skipped=1)


async def test_rest_is_set_aside_after_a_kill(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "waiting", "a")
    write(tmp_path, "dead", "b")
    await import_folder(tmp_path, store)
    (tmp_path / "original" / "dead").rename(tmp_path / "dead")

    taken = await import_folder(tmp_path, store)

    assert taken == TakeOver(skipped=1)
    assert files_in(tmp_path) == ["original/dead/b", "original/waiting/a"]


async def test_file_that_raises_an_unexpected_error_is_set_aside(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object, **__: object) -> Moment:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(original_folder, "next_occurrence", fail)
    write(tmp_path, "waiting", "a")
    write(tmp_path, "waiting", SHA1, schedule="@every 1h")

    taken = await import_folder(tmp_path, store)

    assert taken == TakeOver(waiting=1, broken=1)
    assert (tmp_path / "original" / "broken" / f"waiting-{SHA1}").exists()
    assert "a secret" not in caplog.text


async def test_schedule_that_cannot_be_stored_does_not_prevent_the_start(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> Schedule:
        raise ZeroDivisionError

    monkeypatch.setattr(store, "edit_schedule", fail)
    write(tmp_path, "waiting", "a")
    write(tmp_path, "waiting", SHA1, schedule="@every 1h")

    taken = await import_folder(tmp_path, store)

    assert taken == TakeOver(waiting=1, skipped=1)
    assert await store.get("a") is not None


async def test_task_that_cannot_be_stored_does_not_prevent_the_start(tmp_path: Path) -> None:
    faults = Faults()
    faults.fail(Step.RESTORE, keys=("b",), error=KeyError())
    for id in "abc":
        write(tmp_path, "waiting", id)

    async with opened(None, row_fault=faults) as store:
        taken = await import_folder(tmp_path, store)

        assert taken == TakeOver(waiting=2, skipped=1)
        assert store.unreadable_count == 1


async def test_files_stay_when_the_store_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path, "waiting", "a")
    disk = Disk()
    async with opened(None, disk=disk) as store:
        disk.error = FULL

        with pytest.raises(StoreUnavailable):
            await import_folder(tmp_path, store)

        assert files_in(tmp_path) == ["waiting/a"]


async def test_files_that_cannot_be_set_aside_are_refused_with_what_to_do(
    store: Store, tmp_path: Path
) -> None:
    write(tmp_path, "waiting", "a")
    write(tmp_path, "dead", "b")
    (tmp_path / "original").write_text("in the way")

    with pytest.raises(CannotOpenStore) as caught:
        await import_folder(tmp_path, store)

    assert str(caught.value) == (
        f"the original's files in {tmp_path} cannot be moved to {tmp_path}/original: File exists; "
        "move the folders dead, waiting away by hand: their tasks are already in the store"
    )
