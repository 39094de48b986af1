"""Check for missing pages of a truncated database, read from the files themselves.

SQLite only notices a truncated file if there is no WAL. Otherwise it takes the number of pages
from the WAL, and an error occurs only when a missing page is read, possibly much later.
"""

from __future__ import annotations

from pathlib import Path

from poussetaches.store.sqlite.wal import SMALLEST_PAGE, frames_of, read_header, wal_of

PENDING_BYTE = 0x40000000  # its page is never used


def missing_pages(path: Path, *, with_wal: bool = True) -> int:
    """Return the number of pages that are neither in the file of a database nor in its WAL."""
    header = read_header(path)
    if header is None:
        return 0  # another problem, which SQLite reports
    page_size, page_count = header.page_size, header.page_count
    if page_size < SMALLEST_PAGE or page_count is None:
        return 0
    logged = _logged_pages(wal_of(path)) if with_wal else {}
    needed = [page_count, *logged.values()][-1]  # the last commit has the current number
    absent = range(path.stat().st_size // page_size + 1, needed + 1)
    unused = PENDING_BYTE // page_size + 1
    elsewhere = {number for number in {*logged, unused} if number in absent}
    return len(absent) - len(elsewhere)


def _logged_pages(wal: Path) -> dict[int, int]:
    """Return the committed pages of a WAL, each with the database's size after its commit."""
    committed: dict[int, int] = {}
    pending: list[int] = []
    for frame in frames_of(wal):
        pending.append(frame.page)
        if frame.size_after:
            for each in pending:
                committed.pop(each, None)
                committed[each] = frame.size_after
            pending.clear()
    return committed
