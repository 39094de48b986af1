"""Verification of a database: integrity, schema, readable rows, and consistency."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from importlib import resources
from itertools import islice

from poussetaches.core.callback import callback_of
from poussetaches.core.defect import describe_defect
from poussetaches.core.errors import CannotOpenStore
from poussetaches.core.moment import Moment
from poussetaches.core.queue import QueueOverrides
from poussetaches.core.task import Reason, Task, buried
from poussetaches.store.folder import DataFolder
from poussetaches.store.progress_callback import ProgressCallback
from poussetaches.store.sqlite import database
from poussetaches.store.sqlite.commit_number import format_of, read_version
from poussetaches.store.sqlite.migration import APPLICATION_ID
from poussetaches.store.sqlite.read_only import ReadOnlyDatabase, open_read_only
from poussetaches.store.sqlite.reserve import RESERVE
from poussetaches.store.sqlite.row_reader import Reading, Unreadable
from poussetaches.store.sqlite.rows import (
    COLUMNS,
    Row,
    UnreadableRow,
    lane_from_row,
    queue_from_row,
    text_of,
)
from poussetaches.store.sqlite.salvage import Salvage
from poussetaches.store.sqlite.wal import is_empty, wal_of
from poussetaches.store.sqlite.wal_owner import orphan_problem
from poussetaches.store.statements import load_migrations, load_statements
from poussetaches.store.verify_report import EXAMPLES, VerifyReport

INTEGRITY_ERRORS = 20  # maximum that SQLite reports
_RULE = re.compile(r"^-- (\w+): (.*)$", re.MULTILINE)

RESTORE_ADVICE = (
    "stop the server if it runs, move tasks.db, tasks.db-wal and tasks.db-shm to another folder, "
    "and put a backup in their place as tasks.db; without a backup, `poussetaches export "
    "--salvage` writes what can still be read to a file that `poussetaches import` takes"
)


def verify(folder: DataFolder, progress: ProgressCallback) -> VerifyReport:
    """Verify the store of a folder, which may be in use; change nothing.

    Raises:
        CannotOpenStore: there is none, or it cannot be read.
    """
    path = folder.database
    report = VerifyReport(facts={"database": str(path)})
    if path.exists() and is_empty(path):
        orphan = orphan_problem(path)
        report.add("the file is empty: no task is left" if orphan is None else orphan.what)
        report.advice = RESTORE_ADVICE if orphan is None else orphan.advice
        return report
    with open_read_only(folder, salvage=True, skip_unrelated_wal=True) as source:
        if source.problem is not None:
            report.add(source.problem.what)
            report.notes.append(
                f"only {path.name} was read; a server refuses to start on this folder"
            )
        if source.missing_pages:
            report.add(
                f"the file was cut short: {source.missing_pages} pages are missing at its end"
            )
        try:
            _Verification(source, folder, report, progress).run()
        except sqlite3.DatabaseError as exc:
            report.add(f"nothing more can be read: {exc}")
            report.advice = RESTORE_ADVICE
    if source.problem is not None:
        report.advice = source.problem.advice
    return report


class _Verification:
    """The verification of one database."""

    def __init__(
        self,
        source: ReadOnlyDatabase,
        folder: DataFolder,
        report: VerifyReport,
        progress: ProgressCallback,
    ) -> None:
        self._connection = source.connection
        self._in_use = source.in_use
        self._folder = folder
        self._report = report
        self._progress = progress
        self._reading = Reading(
            source.connection, load_statements("sqlite.sql", COLUMNS), lambda _: False
        )
        self._wal_was_read = source.problem is None
        self._damaged = source.missing_pages > 0

    def run(self) -> None:
        self._check_files()
        if self._is_of_this_format():
            self._check_integrity()
            self._compare_schema()
            self._read_tasks()
            self._read_other_tables()
            if self._damaged:
                self._report.notes.append("rows were not compared with each other")
                self._report.advice = RESTORE_ADVICE
            else:
                self._apply_rules()

    def _check_files(self) -> None:
        report, path = self._report, self._folder.database
        report.facts["bytes"] = path.stat().st_size
        report.facts["in_use"] = self._in_use
        if self._in_use:
            report.notes.append("a server is using it: concurrent changes may be missed")
        elif self._wal_was_read and not is_empty(wal_of(path)):
            report.notes.append(
                "the last server did not stop in order; its WAL was read as well, and the next "
                "start writes it to the database"
            )
        reserve = self._folder.reserve
        if not reserve.exists():
            report.notes.append("there is no reserve file: the next start creates it")
        elif reserve.stat().st_size != RESERVE:
            report.notes.append(
                "the reserve file has another size: the next start creates it again"
            )

    def _is_of_this_format(self) -> bool:
        version = format_of(read_version(self._connection))
        is_ours = self._reading.value("application") == APPLICATION_ID
        newest = load_migrations("sqlite")[-1][0]
        self._report.facts["format"] = version
        if not is_ours:
            raise CannotOpenStore(f"{self._folder.database} is another program's database")
        if version > newest:
            raise CannotOpenStore(
                f"{self._folder.database} was written by a newer version of poussetaches "
                f"(format {version}; this version knows up to {newest})"
            )
        if version < newest:
            self._check_integrity()
            self._report.notes.append(
                f"it has format {version}, which the next start upgrades to {newest}; its rows "
                "can be verified after that"
            )
        return version == newest

    def _check_integrity(self) -> None:
        self._progress("checking integrity", 0, None)
        try:
            found = [
                line
                for (text,) in self._connection.execute(
                    f"PRAGMA integrity_check({INTEGRITY_ERRORS})"
                )
                for line in str(text).splitlines()
                if not line.startswith("***")
            ]
        except sqlite3.DatabaseError as exc:
            found = [str(exc)]
        if found != ["ok"]:
            self._damaged = True
            self._report.add("SQLite finds damage", len(found), found)

    def _compare_schema(self) -> None:
        new = database.connect(None)
        try:
            database.prepare(new, must_exist=False)
            expected, found = _schema(new), _schema(self._connection)
        finally:
            new.close()
        if missing := sorted(expected.keys() - found.keys()):
            self._report.add("tables or indexes are missing", len(missing), missing)
        common = expected.keys() & found.keys()
        if other := sorted(name for name in common if expected[name] != found[name]):
            self._report.add("tables or indexes have another definition", len(other), other)

    def _read_tasks(self) -> None:
        salvage = Salvage(self._reading)
        states: Counter[str] = Counter()
        done, expected = 0, self._expected_tasks()
        ids: list[str] = []
        for numbers in salvage.numbers():
            for seq in numbers:
                task = self._read_task(seq)
                if task is not None:
                    states[task[1]] += 1
                    ids[1:] = [task[0]]
            done += len(numbers)
            self._progress("reading tasks", done, expected)
        self._report.facts |= {"tasks": dict(states), "first_and_last_id": ids}
        if salvage.gaps:
            self._damaged = True
            self._report.add("parts of the table of tasks cannot be read", salvage.gaps)
        if expected is not None and self._damaged and sum(states.values()) < expected:
            lost = expected - sum(states.values())
            self._report.add(f"{lost} of {expected} tasks are missing or cannot be read")
        self._report_unreadable()

    def _read_task(self, seq: int) -> tuple[str, str] | None:
        """Return the id and state of a task that can be read, with its attempts."""
        reading = self._reading
        try:
            task = reading.task_at(seq)
            reading.attempts_at(seq)
        except sqlite3.DatabaseError as exc:
            self._damaged = True
            reading.bad.append(Unreadable("tasks", seq, str(exc)))
            return None
        if task is None:
            return None
        try:
            _process(task)
        except Exception as exc:
            reason = f"cannot be processed: {describe_defect(exc)}"
            reading.bad.append(Unreadable("tasks", seq, reason))
        return task.id, task.state.value

    def _read_other_tables(self) -> None:
        try:
            self._reading.schedules("all_schedules")
            self._read_rows(
                "stored_queues", queue_from_row, "queues have settings that cannot be read"
            )
            self._read_rows(
                "lanes", lane_from_row, "lanes cannot be read, so their tasks are not sent"
            )
            for (name,) in self._reading.all("queue_names"):
                self._reading.minutes(text_of(name), Moment(0))
        except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
            self._report.add(f"queues, schedules or statistics cannot be read: {exc}")
        self._report_unreadable()

    def _read_rows(self, statement: str, read: Callable[[Row], object], problem: str) -> None:
        """Report each row that a function cannot read, by its first column."""
        for row in self._reading.all(statement):
            try:
                read(row)
            except UnreadableRow as exc:
                self._report.add(problem, 1, [f"{_text(row[0])} ({exc})"])

    def _report_unreadable(self) -> None:
        bad, self._reading.bad = self._reading.bad, []
        examples = [f"{row.label} of {row.table} ({row.reason})" for row in bad[:EXAMPLES]]
        if bad:
            self._report.add("rows cannot be read", len(bad), examples)

    def _apply_rules(self) -> None:
        rules = _rules()
        for done, (what, statement) in enumerate(rules):
            self._progress("comparing rows", done, len(rules))
            try:
                rows = self._connection.execute(_as_bytes(statement))
                examples = [_text(key) for (key,) in islice(rows, EXAMPLES)]
                count = len(examples) + sum(1 for _ in rows)
            except sqlite3.DatabaseError as exc:
                self._report.add(f"could not be checked ({exc}): whether {what}")
                continue
            if count:
                self._report.add(what, count, examples)
        self._progress("comparing rows", len(rules), len(rules))

    def _expected_tasks(self) -> int | None:
        try:
            return self._reading.number("expected_tasks")
        except (sqlite3.DatabaseError, AssertionError):
            return None


def _process(task: Task) -> None:
    """Compute everything that a server computes when a task ends, to find errors."""
    ended = buried(task, Reason.CANCELLED, now=task.created_at)
    _ = (ended.lane, ended.failure_group)  # which parse the URL
    callback_of(ended, None, QueueOverrides(), id=task.id, now=task.created_at)


def _rules() -> list[tuple[str, str]]:
    """Return the rules: the text of each problem, and the statement that finds it."""
    text = resources.files("poussetaches.store").joinpath("sql", "sqlite_rules.sql").read_text()
    _, *pieces = _RULE.split(text)
    return [
        (what, statement.strip().rstrip(";"))
        for what, statement in zip(pieces[1::3], pieces[2::3], strict=True)
    ]


def _as_bytes(statement: str) -> str:
    """Return a statement whose result is read as bytes, so that invalid text is readable."""
    return (
        f"SELECT CAST(column1 AS BLOB) FROM (SELECT NULL AS column1 WHERE 0 UNION ALL {statement})"  # noqa: S608 - ours
    )


def _text(value: object) -> str:
    return text_of(value) if isinstance(value, bytes) else str(value)


def _schema(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(
        connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL "
            "AND name NOT LIKE 'sqlite_%'"
        )
    )
