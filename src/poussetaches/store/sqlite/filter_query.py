"""Queries for the tasks that a filter selects, the task added last first.

A query scans a range of an index that is in the order of adding, or several ranges that SQLite
merges, or all tasks. SQL checks every other condition for the scanned rows. If there are such
conditions, the query first finds the row that ``SCAN`` rows reach, and scans no further.

The index by state and queue is in blocks of tasks that were added one after another: a commit
changes a few pages of it for any number of queues. A query finds the blocks that it needs.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from poussetaches.core.filter import TaskFilter
from poussetaches.core.task import TaskState
from poussetaches.store.base import SCAN, Page, Selection
from poussetaches.store.sqlite.row_reader import Reading, as_list

MERGED = 100  # maximum of queues with failing tasks; SQLite merges at most 500 ranges
BLOCK_SHIFT = 10  # a block has the tasks with the same number without its last bits
FIRST_BLOCKS = 4  # examined first; then four times as many, up to MOST_BLOCKS
MOST_BLOCKS = 1024
LAST = 2**63 - 1  # above the number of any task

ENDED = frozenset({TaskState.SUCCEEDED, TaskState.DEAD})
UNFINISHED = frozenset({TaskState.WAITING, TaskState.RUNNING})

_STORED = {TaskState.RUNNING: TaskState.WAITING}  # a running task is stored as waiting
_LISTED = "(SELECT value FROM json_each(:{name}))"
_CONDITIONS = {
    "ids": f"t.id IN {_LISTED.format(name='ids')}",
    "failing": "t.state = 'waiting' AND t.failure_group IS NOT NULL",
    "queue": "t.queue = :queue",
    "url": "substr(t.url, 1, length(:url)) = :url",
    "key": "t.key = :key",
    "schedule": "t.schedule = :schedule",
    "reason": "t.reason = :reason",
    "group": "t.failure_group = :group",
    "text": (
        "(instr(lower(t.url), lower(:text)) OR instr(lower(t.last_error), lower(:text)) OR EXISTS"
        " (SELECT 1 FROM labels WHERE task = t.seq AND instr(lower(value), lower(:text))))"
    ),
    "since": "t.created_at >= :since",
    "until": "t.created_at < :until",
    "ended_since": "t.ended_at >= :ended_since",
    "ended_until": "t.ended_at < :ended_until",
}
_LABELED = (
    "EXISTS (SELECT 1 FROM labels WHERE name = :label_name_{n} AND value = :label_value_{n}"
    " AND task = t.seq)"
)
_LEASED = _LISTED.format(name="leased")


def page(
    reading: Reading, filter: TaskFilter, *, leased: Sequence[int], after: int | None, limit: int
) -> Page:
    """Return the next tasks that a filter selects, without headers and bodies."""
    found = select(reading, filter, leased=leased, after=after, limit=limit)
    return Page(reading.light_tasks(found.numbers), found.after)


def select(
    reading: Reading, filter: TaskFilter, *, leased: Sequence[int], after: int | None, limit: int
) -> Selection:
    """Return the next tasks that a filter selects, as their numbers."""
    search = _Search(reading, filter, leased)
    return search.select(LAST if after is None else after, min(limit, SCAN))


def examine(
    reading: Reading, filter: TaskFilter, numbers: Sequence[int], *, leased: Sequence[int]
) -> dict[int, Found]:
    """Return those of some tasks that exist, with whether a filter selects them."""
    search = _Search(reading, filter, leased)
    return search.examine(numbers)


class Found(NamedTuple):
    """A task that exists: the size of its body, and whether a filter selects it."""

    size: int  # bytes
    is_selected: bool


# The next blocks that have tasks below a number, and how many of these meet some conditions.
_BLOCKS = """
WITH RECURSIVE blocks (n) AS (
    SELECT (SELECT seq >> {shift} FROM tasks WHERE seq < :top ORDER BY seq DESC LIMIT 1)
    UNION ALL
    SELECT (SELECT seq >> {shift} FROM tasks WHERE seq < n << {shift} ORDER BY seq DESC LIMIT 1)
    FROM blocks WHERE n IS NOT NULL
    LIMIT :count
)
SELECT n, (
    SELECT count(*) FROM tasks AS t INDEXED BY tasks_listed
    WHERE t.seq >> {shift} = n AND {conditions} AND t.seq < :after
)
FROM blocks WHERE n IS NOT NULL
"""
_IN_BLOCKS = (
    "json_each(:blocks) AS b CROSS JOIN tasks AS t INDEXED BY tasks_listed"
    f" WHERE t.seq >> {BLOCK_SHIFT} = b.value AND "
)


class _Ranges(NamedTuple):
    """The scanned ranges: rows in the order of adding, and the conditions that they meet."""

    texts: list[str]
    number: str  # the column that has the task's number
    met: frozenset[str]
    in_blocks: str | None = None  # the conditions of the range that is in blocks


class _Reach(NamedTuple):
    """How far a query scans: down to a number, and whether that is the end."""

    floor: int
    is_end: bool
    blocks: Sequence[int] = ()  # that have rows, if the range is in blocks


class _Search:
    """A filter as SQL."""

    def __init__(self, reading: Reading, filter: TaskFilter, leased: Sequence[int]) -> None:
        self._reading = reading
        self._filter = filter
        self._states = _states(filter)
        self._conditions = dict(_conditions(filter, self._states))
        self._parameters: dict[str, object] = {
            **msgspec.structs.asdict(filter),
            "ids": None if filter.ids is None else msgspec.json.encode(filter.ids).decode(),
            "leased": as_list(leased),
        }
        for n, (name, value) in enumerate(filter.labels):
            self._parameters |= {f"label_name_{n}": name, f"label_value_{n}": value}
        # They are in the conditions, or parameters of their own.
        del self._parameters["states"], self._parameters["labels"]

    def examine(self, numbers: Sequence[int]) -> dict[int, Found]:
        """Return those of some tasks that exist, with whether they are selected."""
        is_selected = " AND ".join(self._conditions.values()) or "TRUE"
        columns = f"t.seq, ifnull(length(t.body), 0), ifnull({is_selected}, FALSE)"
        where = f"t.seq IN {_LISTED.format(name='numbers')}"
        parameters = {**self._parameters, "numbers": as_list(numbers)}
        rows = self._reading.run(f"SELECT {columns} FROM tasks AS t WHERE {where}", parameters)  # noqa: S608 - of our own texts
        return {seq: Found(size, bool(selected)) for seq, size, selected in rows}

    def select(self, after: int, limit: int) -> Selection:
        """Return the next tasks that are selected."""
        ranges = self._ranges()
        if not ranges.texts:
            return Selection(array("q"), None)
        rest = [text for name, text in self._conditions.items() if name not in ranges.met]
        # One more than asked for tells whether there are more.
        floor, is_end, blocks = self._reach(ranges, after, None if rest else limit + 1)
        parameters = {**self._parameters, "after": after, "floor": floor, "limit": limit + 1}
        parameters["blocks"] = as_list(blocks)
        rows = self._reading.run(_union(ranges, rest), parameters)
        found = array("q", (row[0] for row in rows))
        if len(found) > limit:
            return Selection(found[:limit], found[limit - 1] if limit else after)
        return Selection(found, None if is_end else floor)

    def _ranges(self) -> _Ranges:
        """Choose the ranges: of the index that probably has the fewest rows."""
        filter = self._filter
        for name, where in (
            ("ids", "tasks AS t WHERE"),
            ("key", "tasks AS t INDEXED BY tasks_key WHERE"),
            ("schedule", "tasks AS t INDEXED BY tasks_schedule WHERE"),
        ):
            if getattr(filter, name) is not None:
                return _Ranges([f"{where} {_CONDITIONS[name]}"], "t.seq", frozenset({name}))
        if self._states == {TaskState.RUNNING}:
            return _Ranges(self._running(), "t.seq", frozenset({"states"}))
        if filter.group is not None:
            return self._grouped()
        if filter.labels:
            text = (
                "labels AS d CROSS JOIN tasks AS t ON t.seq = d.task "
                "WHERE d.name = :label_name_0 AND d.value = :label_value_0"
            )
            return _Ranges([text], "d.task", frozenset({"label 0"}))
        return self._by_state()

    def _by_state(self) -> _Ranges:
        """Return the ranges of states and a queue, or all tasks."""
        if self._filter.failing and len(queues := self._failing_queues()) <= MERGED:
            return self._failing(queues)
        if "states" in self._conditions or self._filter.queue is not None:
            return self._listed()
        return _Ranges(["tasks AS t WHERE TRUE"], "t.seq", frozenset())

    def _grouped(self) -> _Ranges:
        """Return the ranges of a failure group's states."""
        texts = [
            f"tasks AS t INDEXED BY tasks_failures WHERE {_CONDITIONS['group']} AND {text}"
            for text in _state_texts(self._indexed_states() - {TaskState.SUCCEEDED})
        ]
        return _Ranges(texts + self._running("group"), "t.seq", frozenset({"group", "states"}))

    def _failing_queues(self) -> list[str]:
        """Return the queues that may have failing tasks."""
        if self._filter.queue is not None:
            return [self._filter.queue]
        return [name for (name,) in self._reading.all("failing_queues")]

    def _failing(self, queues: Sequence[str]) -> _Ranges:
        """Return the ranges of each queue's failing tasks."""
        texts = self._running("queue", "failing")
        for n, queue in enumerate(queues):
            self._parameters[f"queue_{n}"] = queue
            texts += [
                f"tasks AS t INDEXED BY tasks_failing WHERE t.queue = :queue_{n} AND {text}"
                " AND t.failure_group IS NOT NULL"
                for text in _state_texts(self._indexed_states())
            ]
        return _Ranges(texts, "t.seq", frozenset({"queue", "states", "failing"}))

    def _listed(self) -> _Ranges:
        """Return the range of some states, in one queue or in all."""
        states = self._indexed_states()
        if not states:
            return _Ranges(self._running("queue"), "t.seq", frozenset({"queue", "states"}))
        stored = sorted({_STORED.get(state, state).value for state in states})
        conditions = [f"t.state IN ({', '.join(map(repr, stored))})"]
        if self._filter.queue is not None:
            conditions.append(_CONDITIONS["queue"])
        if not states.issuperset(UNFINISHED):
            conditions.append("(" + " OR ".join(_state_texts(states)) + ")")
        text = " AND ".join(conditions)
        return _Ranges(
            [*self._running("queue"), _IN_BLOCKS + text],
            "t.seq",
            frozenset({"queue", "states"}),
            in_blocks=text,
        )

    def _indexed_states(self) -> frozenset[TaskState]:
        """Return the states to search in an index; a running task is stored as waiting."""
        if TaskState.WAITING in self._states:
            return self._states
        return self._states - {TaskState.RUNNING}

    def _running(self, *names: str) -> list[str]:
        """Return the range of running tasks under some conditions, unless waiting ones have them.

        They are few, and their numbers are known; an index would be searched for each one.
        """
        if self._states & UNFINISHED != {TaskState.RUNNING}:
            return []
        conditions = [self._conditions[name] for name in names if name in self._conditions]
        start = f"tasks AS t WHERE t.state = 'waiting' AND t.seq IN {_LEASED}"
        return [" AND ".join((start, *conditions))]

    def _reach(self, ranges: _Ranges, after: int, enough: int | None) -> _Reach:
        """Return how far to scan for enough rows of the ranges; None stands for ``SCAN``."""
        if ranges.in_blocks is not None:
            return self._reach_in_blocks(ranges.in_blocks, after, enough or SCAN)
        if enough is not None:  # SQLite stops after as many
            return _Reach(0, True)
        text = _union(ranges, [])
        parameters = {**self._parameters, "after": after, "floor": 0, "limit": SCAN}
        reach = f"SELECT count(*), min(seq) FROM ({text})"  # noqa: S608 - of our own texts
        count, floor = self._reading.run(reach, parameters).fetchone()
        return _Reach(floor, False) if count == SCAN else _Reach(0, True)

    def _reach_in_blocks(self, conditions: str, after: int, enough: int) -> _Reach:
        """Return the blocks that have enough rows, but no more than ``SCAN``."""
        text = _BLOCKS.format(shift=BLOCK_SHIFT, conditions=conditions)
        found: list[int] = []
        total, top, span = 0, after, FIRST_BLOCKS
        while True:
            parameters = {**self._parameters, "after": after, "top": top, "count": span}
            rows = self._reading.run(text, parameters).fetchall()
            for block, count in rows:
                if total + count > SCAN:
                    return _Reach(top, False, found)
                total, top = total + count, block << BLOCK_SHIFT
                if count:
                    found.append(block)
                if total >= enough:
                    return _Reach(top, False, found)
            if len(rows) < span:
                return _Reach(0, True, found)
            span = min(span * 4, MOST_BLOCKS)


def _states(filter: TaskFilter) -> frozenset[TaskState]:
    """Return the states that selected tasks can have."""
    states = frozenset(TaskState) if filter.states is None else filter.states
    if filter.failing:
        states &= UNFINISHED
    if filter.reason is not None:
        states &= {TaskState.DEAD}
    if filter.ended_since is not None or filter.ended_until is not None:
        states &= ENDED
    return states


def _conditions(filter: TaskFilter, states: frozenset[TaskState]) -> Iterator[tuple[str, str]]:
    """Yield the conditions that are set, by their names."""
    if states != frozenset(TaskState):
        yield "states", "(" + (" OR ".join(_state_texts(states)) or "FALSE") + ")"
    for name, text in _CONDITIONS.items():
        if getattr(filter, name) not in (None, False):
            yield name, text
    for n in range(len(filter.labels)):
        yield f"label {n}", _LABELED.format(n=n)


def _state_texts(states: frozenset[TaskState]) -> list[str]:
    """Return alternative conditions for tasks in these states. Running tasks are leased."""
    texts = [f"t.state = '{state.value}'" for state in sorted(states & ENDED)]
    if states >= UNFINISHED:
        texts.append("t.state = 'waiting'")
    elif TaskState.WAITING in states:
        texts.append(f"t.state = 'waiting' AND t.seq NOT IN {_LEASED}")
    elif TaskState.RUNNING in states:
        texts.append(f"t.state = 'waiting' AND t.seq IN {_LEASED}")
    return texts


def _union(ranges: _Ranges, rest: Sequence[str]) -> str:
    """Return a statement for the highest numbers in some ranges, merged by SQLite."""
    number = ranges.number
    bounds = f"{number} < :after AND {number} >= :floor"
    selects = (
        " ".join(("SELECT", number, "AS seq FROM", " AND ".join((text, bounds, *rest))))
        for text in ranges.texts
    )
    return " UNION ALL ".join(selects) + " ORDER BY seq DESC LIMIT :limit"
