"""The clock record, and the correction of tasks after the clock was set back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from poussetaches.core.moment import ClockRecord, Moment
from poussetaches.store.base import LastUse
from poussetaches.store.sqlite.isolation import Defect, give_up_task, write_rows
from poussetaches.store.sqlite.row_reader import Reading, as_list
from poussetaches.store.sqlite.transaction import SqliteTransaction, Step

SLICE = 500  # tasks in one transaction: keeps it under ~50 ms

_decode_record = msgspec.json.Decoder(ClockRecord).decode


class PullBackCall(NamedTuple):
    """Numbers of tasks due after ``now``; the clock was set back from ``was`` to ``now``."""

    numbers: Sequence[int]
    now: Moment
    was: Moment
    confirmed: Moment


def read_record(reading: Reading) -> ClockRecord | None:
    """Return the stored clock record; None if it is missing or unreadable."""
    content = reading.value("kept_clock")
    try:
        return _decode_record(content) if isinstance(content, bytes) else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def write_record(tx: SqliteTransaction, records: Sequence[ClockRecord]) -> Sequence[None]:
    for one in records:
        text = msgspec.json.encode(one).decode()
        tx.connection.execute(tx.sql["put_server_value"], ("clock", text))
    return [None] * len(records)


def last_use(reading: Reading) -> LastUse:
    """Return when the store was last in use."""
    row = reading.one("last_use")
    assert row is not None
    return LastUse(*row)


def waiting_after(reading: Reading, now: Moment) -> list[int]:
    """Return the numbers of the waiting tasks that are due after a moment."""
    return [seq for (seq,) in reading.all("waiting_after", now)]


def pull_back(tx: SqliteTransaction, items: Sequence[PullBackCall]) -> Sequence[int]:
    """Correct ``run_at`` after the clock was set back; return the number of changed tasks."""
    return [_pull_back_one(tx, item) for item in items]


def _pull_back_one(tx: SqliteTransaction, item: PullBackCall) -> int:
    abandoned = tx.abandoned()
    were_changed = write_rows(
        tx,
        Step.PULL_BACK,
        [seq for seq in item.numbers if seq not in abandoned],
        lambda some: _pull_back_some(tx, item, some),
        give_up=lambda seq, defect: _give_up(tx, seq, defect, item.now),
    )
    return sum(were_changed)


def _pull_back_some(
    tx: SqliteTransaction, item: PullBackCall, numbers: Sequence[int]
) -> Sequence[bool]:
    values = {**item._asdict(), "numbers": as_list(numbers)}
    rows = tx.connection.execute(tx.sql["pull_back"], values).fetchall()
    lanes = tx.reading.lanes("lanes_numbered", as_list([lane for _, lane, _ in rows]))
    for _, lane, run_at in rows:
        if lane in lanes:  # otherwise the task is never sent, which `verify` reports
            tx.task_waits(lanes[lane], run_at)
    changed = {seq for seq, _, _ in rows}
    return [seq in changed for seq in numbers]


def _give_up(tx: SqliteTransaction, seq: int, defect: Defect, now: Moment) -> bool:
    give_up_task(tx, seq, defect, now=now)
    return False
