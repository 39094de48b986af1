"""``Recorder``: records how attempts ended, and retries until the store accepts it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TypeVar

import msgspec

from poussetaches.core.defect import describe_defect
from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.moment import Moment
from poussetaches.core.task import Bury, Reason, RetryAt
from poussetaches.engine.clock import Clock
from poussetaches.engine.defects import Defects, raise_end
from poussetaches.store.base import Finish, Lease, Store

STORE_RETRY = 1.0  # seconds between tries to record an end, and to get the store back
OUTCOME_TRIES = 10  # unexpected failures, after which the task is ended instead

log = logging.getLogger(__name__)


class PutBack(msgspec.Struct, frozen=True):
    """The end of an attempt that does not count: the lease, and the error to keep, if any."""

    lease: Lease
    error: str | None = None


End = Finish | PutBack
E = TypeVar("E", Finish, PutBack, End)


class Recorder:
    """Records the ends of attempts, and retries each until the server stops.

    Attempts that end in the same turn of the event loop are recorded by one call of the store; if
    it fails, each by its own calls. The store buries a task whose row it cannot write. If it
    still fails unexpectedly, the end is recorded by a later try, so that no task is *running*
    until the next start.
    """

    def __init__(self, *, store: Store, clock: Clock, defects: Defects) -> None:
        self._store = store
        self._clock = clock
        self._defects = defects
        self._retries = True
        self._ended: list[Finish] = []  # in this turn of the event loop
        self._since: dict[asyncio.Task[None], float] = {}

    @property
    def under_way(self) -> set[asyncio.Task[None]]:
        """The recordings that have not ended yet."""
        return set(self._since)

    @property
    def waiting_since(self) -> float | None:
        """The time (monotonic) since which the oldest end waits to be recorded."""
        return min(self._since.values(), default=None)

    def record(self, end: End) -> None:
        """Record an end, without waiting for it."""
        if isinstance(end, PutBack):
            self._start(self._until_done(end, self._clock.now()))
            return
        if not self._ended:
            self._start(self._record_ended(self._clock.now()))
        self._ended.append(end)

    def stop_retrying(self) -> None:
        """Stop retrying: attempts that are not recorded are repeated after the next start."""
        self._retries = False

    async def settle(self) -> None:
        """Wait until everything is recorded or given up."""
        while self._since:
            await asyncio.wait(self.under_way)

    def _start(self, recording: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(recording)
        self._since[task] = self._clock.monotonic()
        task.add_done_callback(self._since.pop)

    async def _record_ended(self, judged_at: Moment) -> None:
        """Record all attempts that ended since the last call."""
        ended, self._ended = self._ended, []
        now = self._clock.now()
        if len(ended) == 1:
            await self._until_done(ended[0], judged_at)
            return
        try:
            await self._store.finish([_in_time(end, judged_at, now) for end in ended], now=now)
        except BaseException as exc:
            raise_end(exc)
            if not isinstance(exc, StoreUnavailable):
                fields = {"count": len(ended), "error": describe_defect(exc)}
                log.warning("outcomes not recorded together, each is recorded alone", extra=fields)
            for end in ended:
                self._start(self._until_done(end, judged_at))

    async def _until_done(self, end: End, judged_at: Moment) -> None:
        task_id = end.lease.task.id
        failures, known_error = 0, ""
        while True:
            now = self._clock.now()
            if now < judged_at:
                end, judged_at = _in_time(end, judged_at, now), now
            try:
                await self._write(end, now)
            except StoreUnavailable as exc:
                error = str(exc)
                self._note_unavailable(task_id, error, is_new=error != known_error)
            except BaseException as exc:
                raise_end(exc)
                error = self._note_defect(task_id, exc, known_error)
                failures += 1
                if failures == OUTCOME_TRIES:
                    end = _ended_in_place(end, error)
            else:
                return
            if not self._retries:
                fields = {"task": task_id, "error": error}
                log.error("outcome not recorded, attempt will be repeated", extra=fields)
                return
            known_error = error
            await self._clock.sleep(STORE_RETRY)

    async def _write(self, end: End, now: Moment) -> None:
        if isinstance(end, PutBack):
            await self._store.give_back(end.lease, now=now, error=end.error)
        else:
            await self._store.finish([end], now=now)

    def _note_unavailable(self, task_id: str, error: str, *, is_new: bool) -> None:
        own = asyncio.current_task()
        if self._store.trouble is not None and own is not None:
            # The store has logged the error, and a restart would not help.
            self._since[own] = self._clock.monotonic()
        elif is_new:
            log.warning("outcome not recorded yet", extra={"task": task_id, "error": error})

    def _note_defect(self, task_id: str, exc: BaseException, known_error: str) -> str:
        """Log and count an unexpected exception unless the last try raised the same."""
        error = describe_defect(exc)
        if error != known_error:
            self._defects.note("outcome could not be recorded", exc, task=task_id)
        return error


def _in_time(end: E, judged_at: Moment, now: Moment) -> E:
    """Return an end, its retry moved earlier if the clock was set back since it was judged."""
    if now >= judged_at or isinstance(end, PutBack) or not isinstance(end.move, RetryAt):
        return end
    move = RetryAt(Moment(end.move.run_at - (judged_at - now)))
    return msgspec.structs.replace(end, move=move)


def _ended_in_place(end: End, error: str) -> Finish:
    """Return the end of a task whose outcome cannot be stored."""
    log.error("outcome discarded, task ended", extra={"task": end.lease.task.id})
    return Finish(end.lease, Bury(Reason.INTERNAL_ERROR, f"internal error: {error}"))
