"""Bulk changes: what is done to one task, done to all that a filter selects."""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import msgspec

from poussetaches.api.problems import after_change, unavailable
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment
from poussetaches.core.task import Task
from poussetaches.store.base import Edit, Edited, Store

SLICE = 500  # tasks edited together: what waits behind them waits some 20 ms
SELECTED = 10_000  # tasks selected in one reading
CALLS = 4  # carried out at once; others wait their turn

# What of a filter is logged; other conditions may hold what is nobody's business.
LOGGED = frozenset({"queue", "states", "failing", "reason", "group", "schedule"})

# Given the place of a task among those selected, and their number, returns what to do to it.
PlacedEdit = Callable[[int, int], Edit]

_ALLOWED = "it would be changed"

log = logging.getLogger(__name__)


class Bulk:
    """Edits all tasks that a filter selects at the beginning, in slices between other work.

    A call goes on when its caller is gone, until it is done or the server stops.
    """

    def __init__(self, *, store: Store, now: Callable[[], Moment]) -> None:
        self._store = store
        self._now = now
        self._turns = asyncio.Semaphore(CALLS)
        self._running: set[asyncio.Task[Edited]] = set()
        self._stopping = False

    async def apply(self, filter: TaskFilter, edit: PlacedEdit) -> Edited:
        """Edit the tasks, the one pushed first before the others; tell how many, and why not.

        Raises:
            Problem: 503, the server stops; what was done until then stays.
        """
        return await self._carry_out(self._apply(filter, edit))

    async def look(self, filter: TaskFilter, edit: PlacedEdit) -> Edited:
        """Tell what ``apply`` would come to, and change nothing."""
        found = await self.apply(filter, lambda place, count: _refusing(edit(place, count)))
        skipped = dict(found.skipped)
        return Edited(skipped.pop(_ALLOWED, 0), skipped)

    async def delete(self, filter: TaskFilter) -> int:
        """Delete the tasks; tell how many."""
        return (await self.apply(filter, lambda place, count: deleted)).count

    async def stop(self) -> None:
        """Begin no more slices, and wait for those that are begun."""
        self._stopping = True
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _carry_out(self, work: Coroutine[Any, Any, Edited]) -> Edited:
        running = asyncio.create_task(work)
        self._running.add(running)
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    def _ended(self, running: asyncio.Task[Edited]) -> None:
        self._running.discard(running)
        if not running.cancelled() and running.exception() is not None:
            log.info("a bulk call ended early", extra={"reason": str(running.exception())})

    async def _apply(self, filter: TaskFilter, edit: PlacedEdit) -> Edited:
        async with self._turns:
            numbers = await self._select(filter)
            count, skipped = 0, Counter[str]()
            for start in range(0, len(numbers), SLICE):
                self._check_going_on(count)
                with after_change(f"{count} tasks were changed", made=count > 0):
                    made = await self._store.edit_many(
                        numbers[start : start + SLICE],
                        _placed(edit, start, len(numbers)),
                        filter=filter,
                        now=self._now(),
                    )
                count += made.count
                skipped.update(made.skipped)
            if count:
                fields = {"count": count, "skipped": skipped.total()}
                log.info("tasks changed in bulk", extra={**fields, "filter": _conditions(filter)})
            return Edited(count, dict(skipped))

    async def _select(self, filter: TaskFilter) -> array[int]:
        """Return what stands for the tasks, the one pushed first before the others."""
        numbers, after = array("q"), None
        while True:
            self._check_going_on(0)
            found = await self._store.select(filter, after=after, limit=SELECTED)
            numbers.extend(found.numbers)
            after = found.after
            if after is None:
                numbers.reverse()
                return numbers

    def _check_going_on(self, count: int) -> None:
        if self._stopping:
            detail = f"the server stops; {count} tasks were changed, repeat the call for the rest"
            raise unavailable("stopping", detail)


def deleted(task: Task) -> None:
    """Delete a task."""


def _conditions(filter: TaskFilter) -> dict[str, object]:
    """Return the conditions that are set, as the log may show them."""
    nothing = msgspec.to_builtins(TaskFilter())
    return {
        name: value if name in LOGGED else "…"
        for name, value in msgspec.to_builtins(filter).items()
        if value != nothing[name]
    }


def _placed(edit: PlacedEdit, start: int, count: int) -> Callable[[int], Edit]:
    return lambda place: edit(start + place, count)


def _refusing(edit: Edit) -> Edit:
    """Return an edit that is refused even where it could be made, so that nothing is changed."""

    def refused(task: Task) -> NoReturn:
        edit(task)
        raise PousseTachesError(_ALLOWED)

    return refused
