"""Whether a database's file is as long as its pages need, read from the files themselves.

SQLite notices a file that was cut short only where no log stands beside it: else the log says how
many pages there are, and those that are in neither would be met one by one, much later.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

HEADER = 100  # bytes
WAL_HEADER = 32
FRAME_HEADER = 24
SMALLEST_PAGE = 512
PENDING_BYTE = 0x40000000  # its page is never used
MAGIC = b"SQLite format 3\x00"


def missing_pages(path: Path) -> int:
    """Return how many pages a database should have that neither its file nor its log holds."""
    with path.open("rb") as file:
        header = file.read(HEADER)
        size = os.fstat(file.fileno()).st_size
    if len(header) < HEADER or not header.startswith(MAGIC):
        return 0  # something else is wrong, and SQLite says what
    (stored,) = struct.unpack_from(">H", header, 16)
    page_size = 65_536 if stored == 1 else stored
    if page_size < SMALLEST_PAGE or header[24:28] != header[92:96]:
        return 0  # the header does not say how many pages there are
    (page_count,) = struct.unpack_from(">I", header, 28)
    logged = _logged_pages(path.with_name(path.name + "-wal"), page_size)
    needed = [page_count, *logged.values()][-1]  # the last commit knows
    absent = range(size // page_size + 1, needed + 1)
    unused = PENDING_BYTE // page_size + 1
    elsewhere = {number for number in {*logged, unused} if number in absent}
    return len(absent) - len(elsewhere)


def _logged_pages(path: Path, page_size: int) -> dict[int, int]:
    """Return the pages of a log that were committed, each with the pages that there were then."""
    committed: dict[int, int] = {}
    pending: list[int] = []
    if not path.exists():
        return committed
    with path.open("rb") as file:
        header = file.read(WAL_HEADER)
        if len(header) < WAL_HEADER:
            return committed
        salt = header[16:24]
        while len(frame := file.read(FRAME_HEADER)) == FRAME_HEADER and frame[8:16] == salt:
            number, size_after = struct.unpack_from(">II", frame)
            pending.append(number)
            if size_after:
                for each in pending:
                    committed.pop(each, None)
                    committed[each] = size_after
                pending.clear()
            file.seek(page_size, os.SEEK_CUR)
    return committed
