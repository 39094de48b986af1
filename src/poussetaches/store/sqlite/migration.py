"""Running a migration, in one transaction."""

from __future__ import annotations

import re
import sqlite3

from poussetaches.store.sqlite.commit_number import number_commit
from poussetaches.store.sqlite.migration_steps import STEPS

APPLICATION_ID = 0x706F7573  # "pous"; other programs' databases have another id

_NEW_COLUMN = re.compile(r"^ALTER TABLE (\w+) ADD COLUMN (\w+)[^;]*;", re.MULTILINE)
_MOVE_COLUMN = """
ALTER TABLE {table} RENAME COLUMN {column} TO earlier_{column};
{statement}
UPDATE {table} SET {column} = earlier_{column} WHERE earlier_{column} IS NOT NULL;
ALTER TABLE {table} DROP COLUMN earlier_{column};
"""


def migrate(connection: sqlite3.Connection, number: int, script: str) -> None:
    """Run a migration; if it fails, nothing is changed."""
    script = _with_existing_columns(connection, script)
    try:
        connection.executescript(f"BEGIN;\n{script}")
        complete = STEPS.get(number)
        if complete is not None:
            complete(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        number_commit(connection, format=number)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _with_existing_columns(connection: sqlite3.Connection, script: str) -> str:
    """Return a script that moves the columns that exist already to the place of new ones.

    Before a release, columns were added to a migration that had already run in other clones. Their
    databases have the columns, but in another order, which `verify` would report.
    """

    def moved(match: re.Match[str]) -> str:
        table, column = match.groups()
        columns = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        if (column,) not in columns.fetchall():
            return match[0]
        return _MOVE_COLUMN.format(table=table, column=column, statement=match[0])

    return _NEW_COLUMN.sub(moved, script)
