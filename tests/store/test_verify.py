from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from poussetaches.core.errors import CannotOpenStore
from poussetaches.core.failure_group import FailureGroup, group_of
from poussetaches.core.task import Bury, Complete, Reason, RetryAt, Task
from poussetaches.store import verify_store
from poussetaches.store.folder import DataFolder
from poussetaches.store.sqlite.migration import APPLICATION_ID
from poussetaches.store.statements import load_migrations
from poussetaches.store.verify_report import VerifyReport
from tests.factories import NOW, make_schedule, make_task
from tests.store.driving import end, lease_all, put_schedule
from tests.store.sqlite_files import opened, raw


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Return a closed database with tasks in every state."""
    path = tmp_path / "tasks.db"
    async with opened(path) as store:
        for id in "abcd":
            await store.add(make_task(id, labels={"user": "7"}))
        await put_schedule(store, make_schedule(next_run_at=NOW + 1, last_fired_at=NOW))
        leases = await lease_all(store)
        await end(store, leases["a"], Complete())
        await end(store, leases["b"], Bury(Reason.REFUSED))
        await end(store, leases["c"], RetryAt(NOW))
    return path


def verified(path: Path) -> VerifyReport:
    return verify_store(DataFolder(path.parent), lambda *_: None)


def problems(path: Path) -> list[tuple[str, list[str]]]:
    return [(found.what, found.examples) for found in verified(path).problems]


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}


def test_intact_store_has_no_problem(path: Path) -> None:
    report = verified(path)

    assert report.problems == []
    assert report.facts["tasks"] == {"succeeded": 1, "dead": 1, "waiting": 2}


def test_task_that_a_server_could_not_end_is_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd_group(task: Task) -> FailureGroup | None:
        if task.id == "c":
            raise ValueError("a secret")
        return group_of(queue=task.queue, url=task.url, status=None, error=None)

    monkeypatch.setattr(Task, "failure_group", property(odd_group))

    [(what, examples)] = problems(path)

    assert what == "rows cannot be read"
    [example] = examples
    assert example.startswith("3 of tasks (cannot be processed: ValueError in ")
    assert "a secret" not in example


@pytest.mark.parametrize(
    ("change", "what", "example"),
    [
        ("UPDATE tasks SET ended_at = NULL WHERE id = 'a'", "have no end time", "a"),
        ("UPDATE tasks SET ended_at = 1 WHERE id = 'c'", "waiting tasks have an end time", "c"),
        ("UPDATE tasks SET reason = NULL WHERE id = 'b'", "have no reason", "b"),
        ("UPDATE tasks SET reason = 'refused' WHERE id = 'a'", "succeeded tasks have a", "a"),
        ("UPDATE tasks SET attempt_total = 0 WHERE id = 'a'", "impossible number", "a"),
        ("UPDATE tasks SET lane = 77 WHERE id = 'd'", "belong to no lane", "d"),
        ("UPDATE tasks SET queue = 'mail' WHERE id = 'a'", "belong to an unknown queue", "a"),
        ("DELETE FROM failure_groups", "no failure group", "b"),
        ("UPDATE attempts SET task = 99 WHERE task = 1", "attempts belong to no", "request-1"),
        ("UPDATE attempts SET ordinal = 9 WHERE task = 1", "attempts are numbered higher", "a"),
        ("INSERT INTO lanes VALUES (9, 'q', 'http://x', 0, 0)", "lanes belong to", "q http://x"),
        ("INSERT INTO keys VALUES ('q', 'k', 'a', x'00', 0)", "keys have no digest", "k"),
        ("INSERT INTO labels VALUES ('x', 'y', 99)", "labels belong to no task", "x=y"),
        ("DELETE FROM labels WHERE task = 1", "have other labels than", "a"),
        ("UPDATE sqlite_sequence SET seq = 3", "used again", "d"),
        ("UPDATE schedules SET next_run_at = 1", "due before the last occurrence", "schedule"),
        ("INSERT INTO server VALUES ('paused', '?')", "neither on nor off", "?"),
        ("UPDATE queues SET dead = 5", "differ from the numbers of their tasks", "default"),
        ("UPDATE tasks SET headers = '{' WHERE id = 'a'", "rows cannot be read", "1 of tasks"),
        ("UPDATE queues SET settings = '{'", "settings that cannot be read", "default"),
        ("DROP INDEX tasks_due", "tables or indexes are missing", "tasks_due"),
        (
            "INSERT INTO unreadable VALUES (4, 0, 'tasks', 'odd', '{}')",
            "were set aside",
            "4 of tasks (odd)",
        ),
    ],
)
def test_violation_of_a_rule_is_reported_with_an_example(
    path: Path, change: str, what: str, example: str
) -> None:
    with closing(raw(path)) as database:
        database.execute(change)

    found = problems(path)

    assert [
        examples for text, examples in found if what in text and examples[0].startswith(example)
    ], found


@pytest.mark.parametrize(
    "kept", [("", "-wal", "-shm"), ("", "-wal")], ids=["as kill -9 leaves it", "copied"]
)
def test_verification_changes_nothing_even_after_a_crash(
    path: Path, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with closing(raw(path)) as database:
        database.execute("UPDATE queues SET dead = 5")
        for suffix in kept:
            shutil.copy(f"{path}{suffix}", crashed)
    before = files_of(crashed)

    found = problems(crashed / "tasks.db")

    assert [what for what, _ in found] == [
        "queues have counts that differ from the numbers of their tasks"
    ]
    assert files_of(crashed) == before


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
async def test_file_that_was_cut_short_is_reported_and_unchanged(
    tmp_path: Path, share: float
) -> None:
    path = tmp_path / "tasks.db"
    async with opened(path) as store:
        for number in range(300):
            await store.add(make_task(f"{number}", body=b"x" * 1000))
    (tmp_path / "reserve").touch()
    os.truncate(path, int(path.stat().st_size * share))
    before = files_of(tmp_path)

    report = verified(path)

    assert [found.what for found in report.problems if "file" in found.what]
    assert "backup" in (report.advice or "")
    with pytest.raises(CannotOpenStore, match="poussetaches verify"):
        async with opened(path):
            pass
    assert files_of(tmp_path) == before


async def test_tasks_in_the_rest_of_a_truncated_file_are_counted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tasks.db"
    async with opened(path) as store:
        for number in range(300):
            await store.add(make_task(f"{number}", body=b"x" * 1000))
    os.truncate(path, path.stat().st_size // 2)

    report = verified(path)

    states = report.facts["tasks"]
    assert isinstance(states, dict)
    assert 0 < states["waiting"] < 300
    lost = 300 - states["waiting"]
    assert f"{lost} of 300 tasks are missing or cannot be read" in [
        found.what for found in report.problems
    ]


def test_folder_without_a_store_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(CannotOpenStore, match="No such file"):
        verified(tmp_path / "tasks.db")
    assert list(tmp_path.iterdir()) == []


def test_store_in_use_is_verified(path: Path) -> None:
    folder = DataFolder(path.parent)
    folder.lock()
    try:
        report = verified(path)
    finally:
        folder.unlock()

    assert report.facts["in_use"] is True
    assert report.problems == []


def test_database_of_an_older_format_is_valid_and_will_be_upgraded(
    tmp_path: Path,
) -> None:
    number, script = load_migrations("sqlite")[0]
    with closing(raw(tmp_path / "tasks.db")) as database:
        database.executescript(script)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {number}")

    report = verified(tmp_path / "tasks.db")

    assert report.problems == []
    assert "which the next start upgrades" in report.notes[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("PRAGMA user_version = 999", "newer version of poussetaches"),
        ("PRAGMA application_id = 7", "another program's"),
    ],
)
def test_database_that_is_not_ours_to_read_cannot_be_verified(
    path: Path, change: str, message: str
) -> None:
    with closing(raw(path)) as database:
        database.execute(change)

    with pytest.raises(CannotOpenStore, match=message):
        verified(path)


def test_file_that_is_not_a_database_is_reported(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)

    report = verified(path)

    assert ["file is not a database" in found.what for found in report.problems] == [True]
    assert report.advice
