"""Conversion between the rows of a database and the records of an export."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import astuple

from poussetaches.core.defect import describe_defect
from poussetaches.core.moment import Moment
from poussetaches.store.export_format import type_of
from poussetaches.store.export_records import (
    KeyRecord,
    MinuteRecord,
    OwnerRecord,
    QueueRecord,
    Record,
    ScheduleRecord,
    TaskRecord,
    UnreadableRecord,
    ValueRecord,
)
from poussetaches.store.minute_row import MinuteRow
from poussetaches.store.sqlite import task_writes
from poussetaches.store.sqlite.isolation import Defect, as_content, give_up_new, write_rows
from poussetaches.store.sqlite.queue_writes import stored_queues
from poussetaches.store.sqlite.row_reader import Reading, Unreadable
from poussetaches.store.sqlite.rows import (
    as_json,
    schedule_values,
)
from poussetaches.store.sqlite.salvage import Salvage
from poussetaches.store.sqlite.transaction import SqliteTransaction, Step
from poussetaches.store.sqlite.unreadable_rows import raw_rows


def records_of(
    reading: Reading, connection: sqlite3.Connection, now: Moment, *, salvage: bool
) -> Iterator[Record]:
    """Yield the records of a database; an open transaction makes them consistent.

    Unreadable rows are exported as they are, like the rows in ``unreadable``. ``salvage`` skips
    damaged pages, and exports the readable rows of each kind.
    """
    kinds = [
        _settings(reading),
        _tasks(reading, salvage=salvage),
        _history(reading),
        _all_unreadable(reading, connection, now),
    ]
    for kind in kinds:
        try:
            yield from kind
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            if not salvage:
                raise


def _settings(reading: Reading) -> Iterator[Record]:
    for name, value in reading.all("export_server"):
        yield ValueRecord(name=name, value=value)
    for _, queue in sorted(stored_queues(reading).items()):
        yield QueueRecord(queue=queue)
    for name, version in reading.all("export_owners"):
        yield OwnerRecord(name=name, version=version)
    for schedule in sorted(reading.schedules("all_schedules"), key=lambda each: each.name):
        yield ScheduleRecord(schedule=schedule)


def _history(reading: Reading) -> Iterator[Record]:
    for queue_name, key, task_id, content, expires_at in reading.all("export_keys"):
        yield KeyRecord(
            queue=queue_name, key=key, task_id=task_id, content=content, expires_at=expires_at
        )
    for row in reading.all("export_minutes"):
        yield MinuteRecord(minute=MinuteRow(*row))


def _all_unreadable(
    reading: Reading, connection: sqlite3.Connection, now: Moment
) -> Iterator[Record]:
    for found_at, table, reason, text in reading.all("export_unreadable"):
        yield UnreadableRecord(found_at=found_at, origin_table=table, reason=reason, content=text)
    for bad in reading.bad:
        for raw in raw_rows(connection, reading.statement, bad):
            yield UnreadableRecord(
                found_at=now, origin_table=bad.table, reason=bad.reason, content=as_json(raw)
            )


def _tasks(reading: Reading, *, salvage: bool) -> Iterator[Record]:
    salvage_scan = Salvage(reading)
    for numbers in salvage_scan.numbers():
        for seq in numbers:
            try:
                record = _task(reading, seq)
            except sqlite3.DatabaseError:
                if not salvage:
                    raise
                continue
            except Exception as exc:  # exported with the unreadable rows
                reading.bad.append(Unreadable("tasks", seq, describe_defect(exc)))
                continue
            if record is not None:
                yield record
    if salvage_scan.gaps and not salvage:
        raise sqlite3.DatabaseError("parts of the table of tasks cannot be read")


def _task(reading: Reading, seq: int) -> TaskRecord | None:
    task = reading.task_at(seq)
    if task is None:
        return None
    attempts = reading.attempts_at(seq) if task.attempt_total else []
    ordinals = [row[0] for row in reading.all("export_ordinals", seq)] if attempts else []
    failed_at = None if task.failure_group is None else reading.value("failed_at", seq)
    return TaskRecord(
        task=task,
        failed_at=Moment(failed_at) if isinstance(failed_at, int) else None,
        attempts=attempts,
        ordinals=ordinals,
    )


class ImportCall(NamedTuple):
    """The arguments of ``put_records``."""

    records: Sequence[Record]
    now: Moment


def put_records(tx: SqliteTransaction, calls: Sequence[ImportCall]) -> Sequence[int | None]:
    """Insert records into a new store.

    Returns for each call the index of the first record that exists already, or None. That record
    and the ones after it were not inserted.
    """
    return [_put_call(tx, call) for call in calls]


def _put_call(tx: SqliteTransaction, call: ImportCall) -> int | None:
    for place, record in enumerate(call.records):
        [is_new] = write_rows(
            tx,
            Step.IMPORT,
            [record],
            lambda some: [_put(tx, one) for one in some],
            give_up=lambda one, defect: _store_as_unreadable(tx, one, defect, call.now),
        )
        if not is_new:
            return place
    return None


def _store_as_unreadable(
    tx: SqliteTransaction, record: Record, defect: Defect, now: Moment
) -> bool:
    """Store a record that could not be imported in ``unreadable``."""
    table = f"{type_of(record)}s"  # the names of the tables
    key = record.task.id if isinstance(record, TaskRecord) else table
    give_up_new(tx, table, key, as_content(record), defect, now=now)
    return True


def _put(tx: SqliteTransaction, record: Record) -> bool:
    if isinstance(record, TaskRecord):
        attempts = list(zip(record.ordinals, record.attempts, strict=True))
        return task_writes.restore(tx, record.task, attempts, failed_at=record.failed_at)
    if isinstance(record, QueueRecord):
        tx.put_queue(record.queue)
    else:
        statement, values = _row(record)
        tx.connection.execute(tx.sql[statement], values)
    return True


def _row(
    record: ValueRecord
    | OwnerRecord
    | ScheduleRecord
    | KeyRecord
    | MinuteRecord
    | UnreadableRecord,
) -> tuple[str, tuple[object, ...]]:
    """Return the statement that inserts a record, and its values."""
    match record:
        case ScheduleRecord(schedule=schedule):
            return "put_schedule", schedule_values(schedule)
        case MinuteRecord(minute=minute):
            return "put_minute", astuple(minute)
        case OwnerRecord():
            return "put_version", astuple(record)
        case ValueRecord():
            return "put_server_value", astuple(record)
        case KeyRecord():
            return "put_key", astuple(record)
        case UnreadableRecord():
            return "add_unreadable", astuple(record)
