"""``Driver``: runs an engine step by step on a virtual clock, for test mode."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from poussetaches.core.errors import TooManyAttempts
from poussetaches.core.moment import SECOND, Moment, later
from poussetaches.core.task import Attempt, Task
from poussetaches.engine.engine import Engine
from poussetaches.engine.loop import Loop
from poussetaches.engine.observer import Observer
from poussetaches.engine.virtual_clock import VirtualClock
from poussetaches.store.base import Store

MOST_ATTEMPTS = 10_000  # at one moment; tasks that push each other never become idle


class AttemptCount:
    """Counts the attempts that end, and forwards all calls to another observer."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.total = 0

    def attempt_started(self, task: Task, *, now: Moment) -> None:
        """Forward the call."""
        self._observer.attempt_started(task, now=now)

    def attempt_ended(self, task: Task, attempt: Attempt, *, now: Moment) -> None:
        """Count it."""
        self.total += 1
        self._observer.attempt_ended(task, attempt, now=now)

    def attempt_put_back(self, task: Task) -> None:
        """Forward the call; an attempt that did not count is not counted here either."""
        self._observer.attempt_put_back(task)


class Driver:
    """Turns the loops of an engine that was loaded and not started.

    The clock stops wherever the engine's loops have something to do, and where a task expires.
    ``chores`` are turned at each such stop, but the clock does not stop for them.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        clock: VirtualClock,
        attempts: AttemptCount,
        chores: Sequence[Loop] = (),
        most_attempts: int | None = None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._attempts = attempts
        self._chores = [*engine.chores, *chores]
        self._most_attempts = MOST_ATTEMPTS if most_attempts is None else most_attempts

    async def run_until_idle(self) -> int:
        """Deliver all due tasks, including tasks that these push; return the number of attempts.

        Raises:
            TooManyAttempts: it did not become idle.
        """
        before = self._attempts.total
        await self._settle()
        return self._attempts.total - before

    async def advance(self, seconds: float) -> int:
        """Advance the time, from one due moment to the next; return how many attempts were made.

        Raises:
            TooManyAttempts: it did not become idle at one of the moments.
        """
        before = self._attempts.total
        end = later(self._clock.now(), seconds)
        next_moment = await self._settle()
        while self._clock.now() < end:
            self._clock.advance_to(end if next_moment is None else min(next_moment, end))
            next_moment = await self._settle()
        return self._attempts.total - before

    async def _settle(self) -> Moment | None:
        """Work until nothing is due now; return when something will be."""
        most = self._attempts.total + self._most_attempts
        for chore in self._chores:
            await chore.turn()
        while True:
            times = [await loop.turn() for loop in self._engine.loops]
            await self._ended_or_rung()
            if self._attempts.total >= most:
                await self._engine.settle()
                raise TooManyAttempts
            next_at = min((time for time in times if time is not None), default=None)
            is_due = next_at is not None and next_at <= self._clock.monotonic()
            if not is_due and not any(loop.has_rung for loop in self._engine.loops):
                return await self._next_moment(next_at)

    async def _ended_or_rung(self) -> None:
        """Wait until nothing is running, or until a bell rings."""
        waiters = [asyncio.create_task(self._engine.settle())]
        waiters += [asyncio.create_task(loop.heard()) for loop in self._engine.loops]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
            await asyncio.gather(*waiters, return_exceptions=True)

    async def _next_moment(self, next_at: float | None) -> Moment | None:
        """Return the next moment at which a loop has something to do, or a task expires."""
        now = self._clock.now()
        moments = []
        if next_at is not None:
            # A microsecond at least: a time that is nearer than the clock can show must pass.
            wait = max(1, round((next_at - self._clock.monotonic()) * SECOND))
            moments.append(Moment(now + wait))
        expires_at = await self._store.next_expiry()
        if expires_at is not None and expires_at > now:
            moments.append(expires_at)
        return min(moments, default=None)
