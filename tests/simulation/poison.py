"""Poison: odd URLs, rows of an earlier version, corrupt rows, and rows that fail.

Faults hit tasks that callers know; the ledger asks here whether one may have ended a task.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random

from poussetaches.store.sqlite.transaction import Fate, Step
from tests.store.faults import Key, key_of

# Steps of tasks, and the remedies that fail as well.
STEPS = (Step.RECORD, Step.GIVE_BACK, Step.BURY, Step.EDIT, Step.REPLACE, Step.END_RUN)
REMEDIES: Sequence[tuple[Step, ...]] = (
    *[()] * 6,
    *[(Step.BURY_FAILED,)] * 3,
    (Step.BURY_FAILED, Step.SET_ASIDE),
)
ODD_AUTHORITIES = ("user:pa[ss@", "u]@", "[zz]@", "a\uff0fb:secret@", "a\uff20b@")
GARBAGE = ("headers = '{'", "expected = '7'", "retry = '[]'", "url = 'ftp://x/'")
# Log events of defects and failed rows: none may occur without an injected fault.
DEFECTS = frozenset(
    {
        *("row could not be processed", "listeners not told of a commit", "listener failed"),
        *("attempt could not be started", "attempt could not be judged"),
        "attempt failed with an internal error",
        *("outcome could not be recorded", "task could not be charged", "maintenance failed"),
        *("observer of attempts failed", "schedule paused by an internal error"),
    }
)
ROW_FAILED = "row could not be processed"


class RowFailed(Exception):
    """An unexpected exception for a row."""


class Poison:
    """The rows with a fault, and the rows that have failed; outlives the server."""

    def __init__(self, random: Random, seen: Counter[str]) -> None:
        self._random = random
        self._seen = seen
        self._steps: dict[Key, frozenset[Step]] = {}
        self._ids: dict[Key, str] = {}  # of tasks, by their numbers and ids
        self._raised: set[tuple[Step, Key]] = set()
        self._failed: set[str] = set()  # ids of tasks
        self._unreadable: set[str] = set()  # ids of tasks
        self.unchanged: set[str] = set()  # ids of tasks that are skipped until the next start

    def may_fail(self, task_id: str) -> bool:
        """Return whether a fault was raised for a task, or its row was made unreadable."""
        return task_id in self._failed or task_id in self._unreadable

    def failed_pruning(self, task_id: str) -> bool:
        """Return whether a fault was raised while a task was pruned."""
        return any(
            step is Step.PRUNE and self._ids.get(key) == task_id for step, key in self._raised
        )

    def __call__(self, step: Step, row: object) -> None:
        """Raise if this row is to fail in this step; the store calls this as its ``row_fault``."""
        key = key_of(row)
        if step not in self._steps.get(key, ()):
            return
        self._seen[f"row that failed while {step}"] += 1
        self._raised.add((step, key))
        if key in self._ids:
            self._failed.add(self._ids[key])
        raise RowFailed(f"{step} {key}")

    def make_task_fail(self, seq: int, task_id: str) -> None:
        """Make a task fail from now on, in one or more steps of its processing."""
        steps = self._random.sample(STEPS, self._random.randint(1, len(STEPS)))
        self._add_fault((seq, task_id), (*steps, *self._random.choice(REMEDIES)))
        self._ids |= {seq: task_id, task_id: task_id}

    def make_pruning_fail(self, seq: int, task_id: str) -> None:
        """Make an ended task fail when it is pruned; it is then set aside."""
        self._add_fault((seq,), (Step.PRUNE,))
        self._ids[seq] = task_id

    def make_schedule_fail(self, name: str) -> None:
        """Make a schedule fail when it is fired."""
        self._add_fault((name,), (Step.FIRE,))

    def remove_schedule_fault(self, name: str) -> None:
        """Stop making a schedule fail."""
        self._steps.pop(name, None)

    def _add_fault(self, keys: tuple[Key, ...], steps: tuple[Step, ...]) -> None:
        for key in keys:
            self._steps[key] = frozenset(steps)

    def corrupt_rows(self, path: Path) -> None:
        """Write URLs of earlier versions, and garbage, into rows while no server runs."""
        self.unchanged.clear()
        if not path.exists():
            return
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            waiting = database.execute(
                "SELECT seq, id, url FROM tasks WHERE state = 'waiting' AND cancelled = 0"
            ).fetchall()
            for seq, _, url in self._sample(waiting, 5):
                odd = url.replace("://", f"://{self._random.choice(ODD_AUTHORITIES)}", 1)
                change = self._random.choice(("url", "on_dead", "on_success"))
                database.execute(f"UPDATE tasks SET {change} = ? WHERE seq = ?", (odd, seq))
                self._seen["stored URL that parsers differ over"] += 1
            for seq, task_id, _ in self._sample(waiting, 1):
                garbage = self._random.choice(GARBAGE)
                database.execute(f"UPDATE tasks SET {garbage} WHERE seq = ?", (seq,))
                self._unreadable.add(task_id)
                self._seen["row that became unreadable"] += 1

    def _sample(self, rows: list[tuple[int, str, str]], most: int) -> list[tuple[int, str, str]]:
        plain = [row for row in rows if "@" not in row[2]]
        return self._random.sample(plain, min(len(plain), self._random.randint(0, most)))

    def odd_url(self, host: str) -> str:
        """Return a URL that is refused at the push."""
        return self._random.choice(
            [f"http://{authority}{host}/" for authority in ODD_AUTHORITIES] + ["//[x", "//a.test/"]
        )

    def unexpected(self, record: logging.LogRecord) -> str | None:
        """Return the failure in a log line, if no fault was injected for it."""
        message = record.getMessage()
        fields = vars(record)
        if message == ROW_FAILED:
            self._seen[f"row that failed was {fields['fate']}"] += 1
            if fields["fate"] == Fate.UNCHANGED and fields["row"] in self._ids:
                self.unchanged.add(self._ids[fields["row"]])
            if (fields["step"], fields["row"]) in self._raised or self._is_alias(fields):
                return None
        elif message not in DEFECTS:
            return None
        return f"{message}: {fields.get('step')} {fields.get('error')} {fields.get('stack')}"

    def _is_alias(self, fields: dict[str, object]) -> bool:
        """Return whether the fault was raised for the same task under its other key."""
        row = fields["row"]
        if not isinstance(row, int):
            return False
        return (fields["step"], self._ids.get(row)) in self._raised

    def set_aside(self, query: Callable[[str], list[tuple[object, ...]]]) -> set[str]:
        """Return the ids of the tasks that were set aside."""
        rows = query("SELECT content FROM unreadable WHERE origin_table = 'tasks'")
        return {json.loads(str(content))["id"] for (content,) in rows}

    def problems(self, query: Callable[[str], list[tuple[object, ...]]]) -> list[str]:
        """Return the rows that failed without an injected fault."""
        died = query("SELECT id FROM tasks WHERE reason = 'internal_error'")
        failed = {str(task_id) for (task_id,) in died}
        found = [
            f"task {task_id} died of an internal error without a fault"
            for task_id in sorted(failed - self._failed)
        ]
        aside = self.set_aside(query) - self._failed - self._unreadable
        return found + [f"task {id} was set aside, but was readable" for id in sorted(aside)]
