from __future__ import annotations

import errno
import io
import json
import os
import resource
from contextlib import closing
from pathlib import Path

import pytest

from poussetaches.core.errors import CannotOpenStore, CannotReadExport, CannotWriteFile
from poussetaches.core.failure_group import FailureGroup
from poussetaches.core.queue import Queue
from poussetaches.core.task import Bury, Complete, DeliveryForm, Reason, RetryAt, Task
from poussetaches.store import import_store, verify_store
from poussetaches.store.base import Push
from poussetaches.store.folder import DataFolder
from poussetaches.store.minute_row import MinuteRow
from tests.factories import NOW, make_queue, make_schedule, make_task, seeded
from tests.store.driving import end, lease_all
from tests.store.sqlite_files import exported, imported, opened, raw


@pytest.fixture
async def folder(tmp_path: Path) -> DataFolder:
    """Return a folder with every kind of object that a store has."""
    folder = DataFolder(tmp_path / "data")
    folder.path.mkdir()
    async with opened(folder.database) as store:
        pushes = [
            Push(task=make_task("a", key="k", labels={"user": "7"}, headers={"X-Key": "secret"})),
            Push(task=make_task("b", unique="u", queue="mail", body=b"\x00\xff", priority=3)),
            Push(
                task=make_task(
                    "c", delivery=DeliveryForm.ENVELOPE, expires_at=NOW + 9, timeout=2.5
                )
            ),
            *(Push(task=make_task(f"d{number}", run_at=NOW + 1)) for number in range(450)),
        ]
        await store.push(pushes, now=NOW)
        leases = await lease_all(store)
        await end(store, leases["a"], Complete())
        await end(store, leases["c"], RetryAt(NOW))
        await store.edit_queue("mail", lambda _: make_queue("mail", paused=True, rate=2.0))
        await store.replace_schedules("app", 4, [make_schedule(owner="app")], now=NOW)
        await store.put_minutes([MinuteRow(minute=NOW, pushed=3, lateness_p50=0.5)])
        await store.set_paused(True)
        again = await lease_all(store)
        await end(store, again["c"], Bury(Reason.EXHAUSTED))
    return folder


async def test_export_of_an_import_is_byte_identical(folder: DataFolder, tmp_path: Path) -> None:
    content = exported(folder)

    copy = await imported(tmp_path / "copy", content)

    assert exported(copy) == content
    assert verify_store(copy, lambda *_: None).problems == []
    assert {file.name for file in copy.path.iterdir()} == {".gitignore", "lock", "tasks.db"}


def test_export_has_every_kind_of_record(folder: DataFolder) -> None:
    lines = [json.loads(line) for line in exported(folder).splitlines()]

    assert lines[0]["type"] == "header"
    assert lines[0]["tasks"] == 453
    assert lines[-1]["counts"] == {
        "key": 1, "minute": 1, "owner": 1, "queue": 2, "schedule": 1, "server": 1, "task": 453,
    }  # fmt: skip
    [task] = [line for line in lines if line["type"] == "task" and line["task"]["id"] == "c"]
    assert task["ordinals"] == [1, 2]
    assert task["failed_at"] == NOW


async def test_unreadable_row_is_exported_unchanged(folder: DataFolder, tmp_path: Path) -> None:
    with closing(raw(folder.database)) as database:
        database.execute("UPDATE tasks SET headers = '{' WHERE id = 'b'")
    content = exported(folder)

    copy = await imported(tmp_path / "copy", content)

    assert exported(copy).splitlines()[1:] == content.splitlines()[1:]
    [found] = verify_store(copy, lambda *_: None).problems
    assert "were set aside" in found.what


def test_task_that_cannot_be_exported_is_exported_as_an_unreadable_row(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd_group(task: Task) -> FailureGroup | None:
        if task.id == "b":
            raise ValueError("a secret")
        return None

    monkeypatch.setattr(Task, "failure_group", property(odd_group))

    lines = [json.loads(line) for line in exported(folder).splitlines()]

    assert lines[-1]["counts"]["task"] == 452
    [row] = [line for line in lines if line["type"] == "unreadable"]
    assert json.loads(row["content"])["id"] == "b"
    assert row["reason"].startswith("ValueError in ")


def _with_ftp(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b"http://app", b"ftp://app") for line in lines]


BROKEN = [
    pytest.param(lambda lines: lines[:9], "the end line is missing after line 9", id="cut"),
    pytest.param(
        lambda lines: [*lines[:8], lines[8][:20]], "line 9 is truncated", id="cut within"
    ),
    pytest.param(
        lambda lines: [*lines[:8], *lines[9:]], "the end line counts", id="line is missing"
    ),
    pytest.param(lambda lines: [*lines[:9], *lines[8:]], "line 10: the id", id="line twice"),
    pytest.param(
        lambda lines: [*lines, lines[8]], "data after the end line", id="more after the end"
    ),
    pytest.param(lambda lines: lines[1:], "line 1 is not the header", id="no header"),
    pytest.param(lambda _: [], "line 1 is not the header", id="empty"),
    pytest.param(
        lambda lines: [lines[0].replace(b"poussetaches", b"\xff"), *lines[1:]],
        "line 1 is not the header of an export: 'utf-8' codec",
        id="header that is not UTF-8",
    ),
    pytest.param(
        lambda lines: [*lines[:8], lines[8].replace(b"task", b"\xff"), *lines[9:]],
        "line 9: 'utf-8' codec",
        id="not UTF-8",
    ),
    pytest.param(
        lambda lines: [*lines[:8], b'{"type":"task","x":' + b"[" * 100_000 + b"\n"],
        "line 9: maximum recursion depth",
        id="deep",
    ),
    pytest.param(
        lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]],
        "line 1: the format is",
        id="newer",
    ),
    pytest.param(
        lambda lines: [*lines[:6], *_with_ftp(lines[6:])],
        "line 7: url: must begin",
        id="URL that cannot be sent to",
    ),
    pytest.param(
        _with_ftp,
        "line 6: url: must begin",
        id="schedule's URL that cannot be sent to",
    ),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
async def test_import_of_a_broken_file_names_the_line_and_leaves_nothing(
    folder: DataFolder, tmp_path: Path, change: object, message: str
) -> None:
    assert callable(change)
    lines = exported(folder).splitlines(keepends=True)

    with pytest.raises(CannotReadExport, match=message):
        await imported(tmp_path / "copy", b"".join(change(lines)))

    assert {file.name for file in (tmp_path / "copy").iterdir()} == {".gitignore", "lock"}


class FailingFile(io.BytesIO):
    """A file whose second half cannot be read."""

    def __next__(self) -> bytes:
        if self.tell() > len(self.getbuffer()) / 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().__next__()


async def test_import_of_a_file_that_cannot_be_read_does_not_blame_the_store(
    folder: DataFolder, tmp_path: Path
) -> None:
    file = FailingFile(exported(folder))
    copy = DataFolder(tmp_path)

    with pytest.raises(CannotReadExport, match="the export cannot be read: Input/output error"):
        await import_store(copy, file, lambda *_: None, now=lambda: NOW, random=seeded())


class Disk:
    """A disk that is full after the last task was imported."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def progress(self, what: str, done: int, expected: int | None) -> None:
        """Fill the disk at the end of the import, before its log is checkpointed."""
        if done == expected:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._room, self._limits[1]))

    def make_room(self) -> None:
        """Allow writes again."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


async def test_import_on_a_disk_that_is_full_at_its_end_is_refused_and_leaves_nothing(
    folder: DataFolder, tmp_path: Path
) -> None:
    """The log is checkpointed at the end; closing the database would ignore the error."""
    content, disk = exported(folder), Disk(4096)
    copy = DataFolder(tmp_path / "copy")
    copy.path.mkdir()

    try:
        with pytest.raises(CannotWriteFile, match="cannot be completed"):
            await import_store(
                copy, io.BytesIO(content), disk.progress, now=lambda: NOW, random=seeded()
            )
    finally:
        disk.make_room()

    assert list(copy.path.iterdir()) == []
    assert exported(await imported(copy.path, content)) == content


async def test_imported_database_is_one_file_that_needs_no_log(
    folder: DataFolder, tmp_path: Path
) -> None:
    copy = await imported(tmp_path / "copy", exported(folder))

    with closing(raw(copy.database)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


async def test_files_of_a_killed_import_do_not_stop_the_next(
    folder: DataFolder, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal", "-shm", "-journal"):
        (copy / f"tasks.db.importing{suffix}").write_bytes(b"half")

    await imported(copy, exported(folder))

    assert {file.name for file in copy.iterdir()} == {"tasks.db", "lock"}


async def test_import_into_a_folder_with_a_store_is_refused(folder: DataFolder) -> None:
    with pytest.raises(CannotOpenStore, match="already exists"):
        await imported(folder.path, exported(folder))


async def test_readable_part_of_a_damaged_store_is_exported_on_demand(
    folder: DataFolder, tmp_path: Path
) -> None:
    os.truncate(folder.database, folder.database.stat().st_size * 2 // 3)

    with pytest.raises(CannotOpenStore, match="--salvage"):
        exported(folder)
    copy = await imported(tmp_path / "copy", exported(folder, salvage=True))

    facts = verify_store(copy, lambda *_: None).facts
    states = facts["tasks"]
    assert isinstance(states, dict)
    assert 0 < sum(states.values()) < 453


async def test_queue_of_an_import_is_served_as_before(folder: DataFolder, tmp_path: Path) -> None:
    copy = await imported(tmp_path / "copy", exported(folder))

    async with opened(copy.database) as store:
        queues = await store.queues()
        again = await store.push([Push(task=make_task("z", key="k"))], now=NOW)

    assert queues["mail"] == make_queue("mail", paused=True, rate=2.0)
    assert isinstance(queues["default"], Queue)
    assert again[0].task_id == "a"
