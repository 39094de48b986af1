"""Whether a database's file is as long as its pages need, read from the files themselves.

SQLite notices a file that was cut short only where no log stands beside it: else the log says how
many pages there are, and those that are in neither would be met one by one, much later.
"""

from __future__ import annotations

from pathlib import Path

from poussetaches.store.sqlite.wal import SMALLEST_PAGE, frames_of, read_header, wal_of

PENDING_BYTE = 0x40000000  # its page is never used


def missing_pages(path: Path, *, with_log: bool = True) -> int:
    """Return how many pages a database should have that neither its file nor its log holds."""
    header = read_header(path)
    if header is None:
        return 0  # something else is wrong, and SQLite says what
    page_size, page_count = header.page_size, header.page_count
    if page_size < SMALLEST_PAGE or page_count is None:
        return 0
    logged = _logged_pages(wal_of(path)) if with_log else {}
    needed = [page_count, *logged.values()][-1]  # the last commit knows
    absent = range(path.stat().st_size // page_size + 1, needed + 1)
    unused = PENDING_BYTE // page_size + 1
    elsewhere = {number for number in {*logged, unused} if number in absent}
    return len(absent) - len(elsewhere)


def _logged_pages(log: Path) -> dict[int, int]:
    """Return the pages of a log that were committed, each with the pages that there were then."""
    committed: dict[int, int] = {}
    pending: list[int] = []
    for frame in frames_of(log):
        pending.append(frame.page)
        if frame.size_after:
            for each in pending:
                committed.pop(each, None)
                committed[each] = frame.size_after
            pending.clear()
    return committed
