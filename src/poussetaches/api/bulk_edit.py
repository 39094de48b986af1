"""``BulkEditor``: applies an edit to all tasks that a filter selects."""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections import Counter
from collections.abc import Callable

import msgspec

from poussetaches.api.problems import after_change, unavailable
from poussetaches.core.edits import Edit
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment
from poussetaches.store.base import Store

SELECT_LIMIT = 10_000  # tasks selected per statement
MAX_CONCURRENT = 4  # bulk edits; others wait

# Conditions whose values are logged. The others may contain personal data.
LOGGED = frozenset({"queue", "states", "failing", "reason", "group", "schedule"})

log = logging.getLogger(__name__)


class BulkResult(msgspec.Struct, frozen=True):
    """The numbers of tasks that a bulk edit changed, and skipped by reason."""

    count: int
    skipped: dict[str, int]


class BulkEditor:
    """Edits the tasks that a filter selects when the edit begins, slice by slice.

    An edit continues after its caller has disconnected, until it is done or the server stops.
    """

    def __init__(self, *, store: Store, now: Callable[[], Moment]) -> None:
        self._store = store
        self._now = now
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._running: set[asyncio.Task[BulkResult]] = set()
        self._stopping = False

    async def apply(self, filter: TaskFilter, edit: Edit, *, dry_run: bool = False) -> BulkResult:
        """Edit the tasks in the order of their pushes; a dry run only counts them.

        Raises:
            Problem: 503, the server is stopping; edits already made are kept.
        """
        running = asyncio.create_task(self._apply(filter, edit, dry_run=dry_run))
        self._running.add(running)
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    async def stop(self) -> None:
        """Start no more slices, and wait for the current ones."""
        self._stopping = True
        await asyncio.gather(*self._running, return_exceptions=True)

    def _ended(self, running: asyncio.Task[BulkResult]) -> None:
        self._running.discard(running)
        if not running.cancelled() and running.exception() is not None:
            log.info("a bulk call ended early", extra={"reason": str(running.exception())})

    async def _apply(self, filter: TaskFilter, edit: Edit, *, dry_run: bool) -> BulkResult:
        async with self._slots:
            numbers = await self._select(filter)
            count, skipped, start = 0, Counter[str](), 0
            while start < len(numbers):
                changed = 0 if dry_run else count
                self._check_running(changed)
                with after_change(f"{changed} tasks were changed", made=changed > 0):
                    edited = await self._store.edit_slice(
                        numbers,
                        edit,
                        start=start,
                        filter=filter,
                        now=self._now(),
                        dry_run=dry_run,
                    )
                count, start = count + edited.count, edited.end
                skipped.update(edited.skipped)
            if count and not dry_run:
                fields = {"count": count, "skipped": skipped.total()}
                log.info("tasks changed in bulk", extra={**fields, "filter": _conditions(filter)})
            return BulkResult(count, dict(skipped))

    async def _select(self, filter: TaskFilter) -> array[int]:
        """Return the store's numbers of the tasks, in the order of their pushes."""
        numbers, after = array("q"), None
        while True:
            self._check_running(0)
            page = await self._store.select(filter, after=after, limit=SELECT_LIMIT)
            numbers.extend(page.numbers)
            after = page.after
            if after is None:
                numbers.reverse()
                return numbers

    def _check_running(self, count: int) -> None:
        if self._stopping:
            detail = (
                f"the server is stopping; {count} tasks were changed; repeat the call for the rest"
            )
            raise unavailable("stopping", detail)


def _conditions(filter: TaskFilter) -> dict[str, object]:
    """Return the conditions that are set, with the values that may be logged."""
    default = msgspec.to_builtins(TaskFilter())
    return {
        name: value if name in LOGGED else "…"
        for name, value in msgspec.to_builtins(filter).items()
        if value != default[name]
    }
