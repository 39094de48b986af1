"""A database's write-ahead log (WAL), read from the files themselves, without SQLite.

Formats: https://www.sqlite.org/fileformat2.html, sections 1.3, 3 and 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

HEADER = 100  # bytes
WAL_HEADER = 32
FRAME_HEADER = 24
SMALLEST_PAGE = 512
MAGIC = b"SQLite format 3\x00"
WAL_MAGIC = 0x377F0682  # with the last bit set, checksums are of big-endian words
_WAL_MAGICS = (WAL_MAGIC, WAL_MAGIC | 1)
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
WORD = 0xFFFFFFFF
_PAIR = struct.Struct(">II")


class Header(NamedTuple):
    """The first 100 bytes of a database."""

    content: bytes

    @property
    def page_size(self) -> int:
        """The size of a page in bytes; less than the smallest possible if it is damaged."""
        (stored,) = struct.unpack_from(">H", self.content, 16)
        return 65_536 if stored == 1 else int(stored)

    @property
    def page_count(self) -> int | None:
        """The number of pages; None if the header's value is outdated."""
        if self.content[24:28] != self.content[92:96]:
            return None
        return int.from_bytes(self.content[28:32], "big")

    @property
    def user_version(self) -> int:
        """The format and the number of the last commit."""
        return int.from_bytes(self.content[60:64], "big", signed=True)


class Frame(NamedTuple):
    """One page in a WAL; ``size_after``, in pages, is 0 unless it ends a commit."""

    page: int
    size_after: int
    header: Header | None  # of the database, if this is its first page


class _WalHeader(NamedTuple):
    """The first 32 bytes of a WAL."""

    content: bytes

    @property
    def page_size(self) -> int:
        return int.from_bytes(self.content[8:12], "big")

    @property
    def salts(self) -> bytes:
        """Two random numbers that each frame repeats; frames of an earlier use have others."""
        return self.content[16:24]

    @property
    def words(self) -> struct.Struct:
        """The format of the two words that a checksum adds at a time."""
        return struct.Struct(">II" if self.content[3] & 1 else "<II")

    @property
    def checksum(self) -> tuple[int, int] | None:
        """The checksum that the frames continue; None if it is wrong."""
        sums = _checksum(self.words, self.content[:24], (0, 0))
        is_wal = int.from_bytes(self.content[:4], "big") in _WAL_MAGICS
        return sums if is_wal and sums == _PAIR.unpack_from(self.content, 24) else None


def wal_of(database: Path) -> Path:
    """Return the path of a database's WAL."""
    return database.with_name(f"{database.name}-wal")


def wal_index_of(database: Path) -> Path:
    """Return the path of the index of a database's WAL."""
    return database.with_name(f"{database.name}-shm")


def journal_of(database: Path) -> Path:
    """Return the path of a database's rollback journal, which is used before WAL mode is set."""
    return database.with_name(f"{database.name}-journal")


def files_of(database: Path) -> list[Path]:
    """Return the paths of a database and of all files that SQLite creates beside it."""
    return [database, wal_of(database), wal_index_of(database), journal_of(database)]


def is_empty(path: Path) -> bool:
    """Return whether a file is empty or missing."""
    try:
        return not path.stat().st_size
    except FileNotFoundError:
        return True


def read_header(database: Path) -> Header | None:
    """Return the header of a database; None if the file is not a database."""
    with database.open("rb") as file:
        content = file.read(HEADER)
    return Header(content) if len(content) == HEADER and content.startswith(MAGIC) else None


def frames_of(wal: Path) -> Iterator[Frame]:
    """Yield the frames that were written since the WAL was last reset, without verifying them.

    The last ones may be torn, or belong to an uncommitted transaction.
    """
    with _opened(wal) as (file, start):
        while len(frame := file.read(FRAME_HEADER)) == FRAME_HEADER and frame[8:16] == start.salts:
            page, size_after = _PAIR.unpack_from(frame)
            after = file.tell() + start.page_size
            header = Header(file.read(HEADER).ljust(HEADER, b"\0")) if page == 1 else None
            yield Frame(page, size_after, header)
            file.seek(after)


def has_commit(wal: Path) -> bool:
    """Return whether SQLite would replay anything from a WAL; it stops at a wrong checksum."""
    with _opened(wal) as (file, start):
        sums, size = start.checksum, FRAME_HEADER + start.page_size
        while sums is not None and len(frame := file.read(size)) == size:
            page, size_after = _PAIR.unpack_from(frame)
            sums = _checksum(start.words, frame[:8] + frame[FRAME_HEADER:], sums)
            if not page or frame[8:16] != start.salts or sums != _PAIR.unpack_from(frame, 16):
                return False
            if size_after:
                return True
    return False


def is_other_format(wal: Path) -> bool:
    """Return whether a file in the place of a WAL is not one: SQLite would overwrite it."""
    if is_empty(wal):
        return False
    with wal.open("rb") as file:
        start = file.read(WAL_HEADER)
    # A power cut may leave zeros, or a part of the header, which is synced before any frame.
    has_magic = any(magic.to_bytes(4, "big").startswith(start[:4]) for magic in _WAL_MAGICS)
    return any(start) and not has_magic


def orphaned_files(database: Path) -> list[Path]:
    """Return the WAL and journal of a database that is missing or empty.

    SQLite deletes them when it first reads an empty database.
    """
    return [each for each in (wal_of(database), journal_of(database)) if not is_empty(each)]


def undoes_creation(journal: Path) -> bool:
    """Return whether there is a journal, and rolling it back empties the database."""
    if is_empty(journal):
        return False
    with journal.open("rb") as file:
        content = file.read(20)
    return content.startswith(JOURNAL_MAGIC) and content[16:20] == bytes(4)


@contextmanager
def _opened(wal: Path) -> Iterator[tuple[BinaryIO, _WalHeader]]:
    """Open a WAL and read its header; a missing or short WAL counts as empty."""
    with wal.open("rb") if wal.exists() else BytesIO() as file:
        yield file, _WalHeader(file.read(WAL_HEADER).ljust(WAL_HEADER, b"\0"))


def _checksum(words: struct.Struct, content: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    for one, other in words.iter_unpack(content):
        first = (first + one + second) & WORD
        second = (second + other + first) & WORD
    return first, second
