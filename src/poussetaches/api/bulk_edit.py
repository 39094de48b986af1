"""Bulk changes: what is done to one task, done to all that a filter selects."""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from poussetaches.api.problems import after_change, unavailable
from poussetaches.core.edits import Edit
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment
from poussetaches.store.base import Store

SELECT_LIMIT = 10_000  # tasks selected in one reading
MAX_CONCURRENT = 4  # carried out at once; others wait their turn

# What of a filter is logged; other conditions may hold what is nobody's business.
LOGGED = frozenset({"queue", "states", "failing", "reason", "group", "schedule"})

log = logging.getLogger(__name__)


class BulkResult(msgspec.Struct, frozen=True):
    """What became of a bulk edit: how many tasks were edited, and why others were not."""

    count: int
    skipped: dict[str, int]


class BulkEditor:
    """Edits all tasks that a filter selects at the beginning, in slices between other work.

    A call goes on when its caller is gone, until it is done or the server stops.
    """

    def __init__(self, *, store: Store, now: Callable[[], Moment]) -> None:
        self._store = store
        self._now = now
        self._turns = asyncio.Semaphore(MAX_CONCURRENT)
        self._running: set[asyncio.Task[BulkResult]] = set()
        self._stopping = False

    async def apply(self, filter: TaskFilter, edit: Edit, *, dry_run: bool = False) -> BulkResult:
        """Edit the tasks, the one pushed first before the others; a dry run only counts them.

        Raises:
            Problem: 503, the server is stopping; the edits made until then are kept.
        """
        return await self._carry_out(self._apply(filter, edit, dry_run=dry_run))

    async def stop(self) -> None:
        """Begin no more slices, and wait for those that are begun."""
        self._stopping = True
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _carry_out(self, work: Coroutine[Any, Any, BulkResult]) -> BulkResult:
        running = asyncio.create_task(work)
        self._running.add(running)
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    def _ended(self, running: asyncio.Task[BulkResult]) -> None:
        self._running.discard(running)
        if not running.cancelled() and running.exception() is not None:
            log.info("a bulk call ended early", extra={"reason": str(running.exception())})

    async def _apply(self, filter: TaskFilter, edit: Edit, *, dry_run: bool) -> BulkResult:
        async with self._turns:
            numbers = await self._select(filter)
            count, skipped, place = 0, Counter[str](), 0
            while place < len(numbers):
                changed = 0 if dry_run else count
                self._check_going_on(changed)
                with after_change(f"{changed} tasks were changed", made=changed > 0):
                    edited = await self._store.edit_slice(
                        numbers,
                        edit,
                        start=place,
                        filter=filter,
                        now=self._now(),
                        dry_run=dry_run,
                    )
                count, place = count + edited.count, edited.end
                skipped.update(edited.skipped)
            if count and not dry_run:
                fields = {"count": count, "skipped": skipped.total()}
                log.info("tasks changed in bulk", extra={**fields, "filter": _conditions(filter)})
            return BulkResult(count, dict(skipped))

    async def _select(self, filter: TaskFilter) -> array[int]:
        """Return what stands for the tasks, the one pushed first before the others."""
        numbers, after = array("q"), None
        while True:
            self._check_going_on(0)
            found = await self._store.select(filter, after=after, limit=SELECT_LIMIT)
            numbers.extend(found.numbers)
            after = found.after
            if after is None:
                numbers.reverse()
                return numbers

    def _check_going_on(self, count: int) -> None:
        if self._stopping:
            detail = f"the server stops; {count} tasks were changed, repeat the call for the rest"
            raise unavailable("stopping", detail)


def _conditions(filter: TaskFilter) -> dict[str, object]:
    """Return the conditions that are set, as the log may show them."""
    nothing = msgspec.to_builtins(TaskFilter())
    return {
        name: value if name in LOGGED else "…"
        for name, value in msgspec.to_builtins(filter).items()
        if value != nothing[name]
    }
