"""What is kept of the clock, and the moments that a clock set back leaves in the future."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from poussetaches.core.moment import ClockRecord, Moment
from poussetaches.core.queue import Lane
from poussetaches.store.base import LastUse
from poussetaches.store.sqlite.reads import Reading, as_list
from poussetaches.store.sqlite.transaction import SqliteTransaction

SLICE = 500  # tasks in one transaction: keeps it under ~50 ms

_decode_record = msgspec.json.Decoder(ClockRecord).decode


class PullingBack(NamedTuple):
    """Tasks that wait for a moment after ``now``, to which the clock was set back from ``was``."""

    numbers: Sequence[int]
    now: Moment
    was: Moment
    confirmed: Moment


def record(reading: Reading) -> ClockRecord | None:
    """Return what was kept of the clock; None when there is nothing that can be read."""
    content = reading.value("kept_clock")
    try:
        return _decode_record(content) if isinstance(content, bytes) else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def keep_record(tx: SqliteTransaction, records: Sequence[ClockRecord]) -> Sequence[None]:
    """Keep what must be known of the clock after a restart."""
    for each in records:
        text = msgspec.json.encode(each).decode()
        tx.connection.execute(tx.sql["put_server_value"], ("clock", text))
    return [None] * len(records)


def last_use(reading: Reading) -> LastUse:
    """Return until when the store was in use."""
    row = reading.one("last_use")
    assert row is not None
    return LastUse(*row)


def waiting_after(reading: Reading, now: Moment) -> list[int]:
    """Return the numbers of the tasks that wait for a moment after another."""
    return [seq for (seq,) in reading.all("waiting_after", now)]


def pull_back(tx: SqliteTransaction, items: Sequence[PullingBack]) -> Sequence[int]:
    """Correct the moments that a clock set back leaves too late; return how many."""
    return [_pull_back_one(tx, item) for item in items]


def _pull_back_one(tx: SqliteTransaction, item: PullingBack) -> int:
    values = {**item._asdict(), "numbers": as_list(item.numbers)}
    changed = tx.connection.execute(tx.sql["pull_back"], values).fetchall()
    lanes = {
        number: Lane(queue, origin, bool(forced))
        for number, queue, origin, forced in tx.reading.all(
            "lanes_numbered", as_list([number for number, _ in changed])
        )
    }
    for number, run_at in changed:
        if number in lanes:  # else nobody sends it, as `verify` says
            tx.task_waits(lanes[number], run_at)
    return len(changed)
