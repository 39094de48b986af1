"""Writing many rows by few statements: to run one costs about as much as to write a row."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

SIZES = (32, 8)  # rows of one statement, tried in this order; what is left goes one by one

_ROW = re.compile(r"VALUES (\([^()]*\))")


def insert_rows(
    connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]
) -> None:
    """Run a statement for rows; it holds ``VALUES`` once, with the marks of one row."""
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
    """Return a statement for one row as one for many."""
    return _ROW.sub(lambda match: f"VALUES {', '.join([match[1]] * count)}", statement)
