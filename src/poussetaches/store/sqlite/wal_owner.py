"""Checks that the WAL beside a database belongs to it, before SQLite opens them.

SQLite replays any WAL with the right name onto the database beside it, then deletes it. Beside an
empty database it deletes the WAL at once, even if it only reads.
See docs/decisions/0026-numbered-commits.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from poussetaches.core.errors import CannotWriteFile
from poussetaches.store.sqlite.commit_number import follows, is_numbered
from poussetaches.store.sqlite.wal import (
    Header,
    frames_of,
    has_commit,
    is_empty,
    is_other_format,
    journal_of,
    orphaned_files,
    read_header,
    undoes_creation,
    wal_of,
)


class FilesProblem(NamedTuple):
    """A problem with a database's files, and advice on it."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


def files_problem(path: Path) -> FilesProblem | None:
    """Return the reason why SQLite must not open a database with the files beside it.

    No server may be using the files.
    """
    if is_empty(path):
        return orphan_problem(path)
    if is_other_format(wal_of(path)):
        name = wal_of(path).name
        return FilesProblem(
            f"{name} is not an SQLite WAL, and the WAL that it replaced may have held "
            "acknowledged tasks",
            f"put the WAL back as {name}, or, to use {path.name} without it, move {name} to "
            "another folder",
        )
    unrelated = _unrelated_file(path)
    if unrelated is None:
        return None
    return FilesProblem(
        f"{unrelated.name} belongs to another database, or to another state of this one, and may "
        "hold acknowledged tasks",
        f"put the database that it belongs to back as {path.name}, or, to use this {path.name}, "
        f"move {unrelated.name} to another folder and keep it",
    )


def orphan_problem(path: Path) -> FilesProblem | None:
    """Return the problem if a database is empty or missing, but its WAL is not."""
    # A journal of the creation of a database holds no data.
    orphans = [each for each in orphaned_files(path) if not undoes_creation(each)]
    if not orphans or not is_empty(path):
        return None
    return FilesProblem(
        f"{path.name} is empty or missing, but its WAL is there and may hold acknowledged tasks",
        f"put {path.name} back beside {orphans[0].name}, or, to start empty, move "
        f"{orphans[0].name} to another folder and keep it",
    )


def check_no_wal_remains(path: Path) -> None:
    """Check that a new database gets no existing WAL, which SQLite would replay.

    Raises:
        CannotWriteFile: there is a WAL, or a rollback journal.
    """
    for each in orphaned_files(path):
        raise CannotWriteFile(
            f"{path} cannot be written: {each.name} beside it belongs to another database and "
            f"may hold acknowledged tasks; put that database back as {path.name}, or move "
            f"{each.name} to another folder and keep it"
        )


def _unrelated_file(database: Path) -> Path | None:
    """Return the WAL or journal of another database, which would destroy this one.

    No server may be using the database. A WAL passes if neither file has numbered commits, which
    version 1.0.0 did not write.
    """
    header = read_header(database)
    if header is None:
        return None  # SQLite reports the problem
    journal, wal = journal_of(database), wal_of(database)
    if undoes_creation(journal) and database.stat().st_size > header.page_size:
        return journal
    return None if _continues(wal, header) or not has_commit(wal) else wal


def _continues(wal: Path, header: Header) -> bool:
    """Return whether a WAL's first commit follows the file's last, or is in the file already."""
    versions: list[Header] = []
    sizes = set()
    for frame in frames_of(wal):
        if frame.header is not None:
            versions.append(frame.header)
        if frame.size_after:
            sizes.add(frame.size_after)
    if not versions:
        # Only other programs, such as the sqlite3 shell, commit without writing the first page,
        # and such commits do not change the number of pages.
        return header.page_count is None or sizes <= {header.page_count}
    if header in versions:
        return True
    if is_numbered(header.user_version):
        return follows(versions[0].user_version, header.user_version)
    return not any(is_numbered(version.user_version) for version in versions)
