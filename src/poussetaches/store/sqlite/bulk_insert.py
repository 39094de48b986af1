"""Bulk inserts: running a statement costs about as much as writing a row."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

SIZES = (32, 8)  # rows per statement, in this order; the remaining rows are written singly

_ROW = re.compile(r"VALUES (\([^()]*\))")


def insert_rows(
    connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]
) -> None:
    """Run an insert for rows; the statement has ``VALUES`` once, with the marks of one row."""
    start = 0
    for size in SIZES:
        while start + size <= len(rows):
            values = chain.from_iterable(rows[start : start + size])
            connection.execute(multi_row_statement(statement, size), tuple(values))
            start += size
    if start < len(rows):
        connection.executemany(statement, rows[start:])


@lru_cache
def multi_row_statement(statement: str, count: int) -> str:
    """Return the statement that inserts ``count`` rows, made from the one for a single row."""
    return _ROW.sub(lambda match: f"VALUES {', '.join([match[1]] * count)}", statement)
