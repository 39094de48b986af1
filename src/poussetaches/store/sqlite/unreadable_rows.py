"""Moves unreadable rows, with all their columns, to the table ``unreadable``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from poussetaches.core.moment import Moment
from poussetaches.store.sqlite.row_reader import Unreadable
from poussetaches.store.sqlite.rows import as_json, text_or_bytes
from poussetaches.store.sqlite.task_writes import delete_rows
from poussetaches.store.sqlite.transaction import SqliteTransaction

_RAW = {"tasks": "raw_task", "attempts": "raw_attempts", "schedules": "raw_schedule"}


def clear_away(tx: SqliteTransaction, now: Moment) -> None:
    """Set aside the unreadable rows that a transaction has read so far."""
    while tx.reading.bad:
        set_row_aside(tx, tx.reading.bad.pop(0), now)


def set_row_aside(tx: SqliteTransaction, row: Unreadable, now: Moment) -> bool:
    """Move a row to the table ``unreadable``; return whether it existed."""
    table, key, reason = row
    found = _raw(tx.connection, tx.sql[_RAW[table]], key)
    for raw in found:
        values = (now, table, reason, as_json(raw))
        tx.connection.execute(tx.sql["add_unreadable"], values)
        if table == "tasks" and isinstance(key, int):
            delete_rows(tx, [key])
            tx.end_lease(key)
            _uncount(tx, raw)
    tx.connection.execute(
        tx.sql["delete_schedule" if table == "schedules" else "delete_attempts"], (key,)
    )
    if found:
        tx.set_aside.append(row)
    return bool(found)


def raw_rows(
    connection: sqlite3.Connection, statement: Callable[[str], str], row: Unreadable
) -> list[sqlite3.Row]:
    """Return the raw columns of an unreadable row."""
    return _raw(connection, statement(_RAW[row.table]), row.key)


def _uncount(tx: SqliteTransaction, row: sqlite3.Row) -> None:
    queue, state = row["queue"], row["state"]
    if not isinstance(queue, str):
        return
    tx.count(queue, state, -1)
    if state == "waiting" and row["attempt_count"]:
        tx.count(queue, "failing", -1)


def _raw(
    connection: sqlite3.Connection, statement: str, key: int | str | bytes
) -> list[sqlite3.Row]:
    """Return rows; a text that is not UTF-8 is returned as bytes."""
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    factory = connection.text_factory
    connection.text_factory = text_or_bytes
    try:
        return cursor.execute(statement, (key,)).fetchall()
    finally:
        connection.text_factory = factory
