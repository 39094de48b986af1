"""``Dispatcher``: leases due tasks, starts their attempts and records how they ended."""

from __future__ import annotations

import asyncio
import logging

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane
from poussetaches.core.task import Bury, Reason
from poussetaches.engine.attempt_runner import AttemptRunner
from poussetaches.engine.bucket_storage import BucketStorage
from poussetaches.engine.clock import Clock
from poussetaches.engine.clock_watch import ClockWatch
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.observer import Observer
from poussetaches.engine.recorder import STORE_RETRY, PutBack, Recorder
from poussetaches.engine.server_limits import ServerLimits
from poussetaches.http_client.deadline import GRACE, LATE
from poussetaches.store.base import Finish, Lease, Store

CHARGE_BATCH = 100  # tasks of an absent origin per request to the store
CHECK_BATCH = 500  # lanes per request to the store
CHECK_INTERVAL = 60.0  # seconds between checks of all due lanes, blocked or not

log = logging.getLogger(__name__)


class Dispatcher:
    """Runs due tasks, at most ``max_in_flight`` at once."""

    def __init__(
        self,
        *,
        store: Store,
        attempts: AttemptRunner,
        recorder: Recorder,
        observer: Observer,
        lanes: Lanes,
        limits: ServerLimits,
        bucket_storage: BucketStorage,
        clock: Clock,
        clock_watch: ClockWatch,
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._recorder = recorder
        self._observer = observer
        self._lanes = lanes
        self._buckets = lanes.limits.buckets
        self._limits = limits
        self._bucket_storage = bucket_storage
        self._clock = clock
        self._clock_watch = clock_watch
        self._saving: set[asyncio.Task[None]] = set()  # one at most
        self._behind_since: float | None = None
        self._checked_at = clock.monotonic()
        self._in_flight: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """The number of attempts in flight."""
        return len(self._in_flight)

    @property
    def behind_since(self) -> float | None:
        """The time (monotonic) since which ticks leave due tasks unstarted without a limit."""
        return self._behind_since if self._limits.allows_attempts else None

    @property
    def recording_since(self) -> float | None:
        """The time (monotonic) since which the oldest end waits to be recorded."""
        return self._recorder.waiting_since

    async def tick(self) -> float | None:
        """Start all due tasks that the limits allow; return when to tick again."""
        if self._store.trouble is not None:
            return await self._recover()
        if not self._limits.allows_attempts:
            return None
        try:
            await self._clock_watch.check()
            await self._check_all_due()
            await self._start_due()
            await self._charge_due()
        except StoreUnavailable as exc:
            log.warning("due tasks not leased", extra={"error": str(exc)})
            return self._clock.monotonic() + STORE_RETRY
        self._record_backlog()
        if self._buckets.has_unsaved:  # the store was unavailable before
            self._save_buckets()
        return self._wake_at()

    def _wake_at(self) -> float | None:
        """Return when an attempt may start that does not wait for an event."""
        times = (self._lanes.wake_at(), self._limits.more_slots_at)
        return min((time for time in times if time is not None), default=None)

    async def drain(self, limit: float) -> None:
        """Start no more attempts, and cut off the ones in flight that have not ended in time."""
        self._limits.is_draining = True
        self._recorder.stop_retrying()
        if self._in_flight and limit > 0:
            log.info("waiting for attempts in flight", extra={"count": len(self._in_flight)})
            ends_at = self._clock.monotonic() + limit
            deadline = asyncio.create_task(self._clock.sleep(limit))
            ended = asyncio.ensure_future(_all_done(self._in_flight))
            await asyncio.wait({deadline, ended}, return_when=asyncio.FIRST_COMPLETED)
            if self._clock.monotonic() > ends_at + LATE:
                # The process was suspended: read the answers that arrived meanwhile.
                await asyncio.wait({ended}, timeout=GRACE)
            for waiter in (deadline, ended):
                waiter.cancel()
        if self._in_flight:
            log.warning(
                "attempts cut off, will be repeated", extra={"count": len(self._in_flight)}
            )
        self.cut_off()
        await _all_done(self._in_flight)
        await self._recorder.settle()
        await _all_done(self._saving)

    def cut_off(self) -> None:
        """Cancel the attempts in flight; nothing about them is recorded."""
        for attempt in self._in_flight:
            attempt.add_done_callback(self._in_flight.discard)  # it may never have begun
            attempt.cancel()

    async def settle(self) -> None:
        """Wait until no attempt is in flight and every outcome is recorded."""
        while under_way := self._in_flight | self._recorder.under_way | self._saving:
            await asyncio.wait(under_way)

    async def _start_due(self) -> None:
        while wanted := self._lanes.startable(self._limits.room):
            looked_at = self._clock.now()
            leases = await self._lease(wanted)
            now = self._clock.now()
            for lease in leases:
                self._start(lease, now)
            if self._buckets.has_unsaved:
                self._save_buckets()
            # Lanes whose tasks are gone are no longer due: the lanes behind them get their turn.
            if not leases and all(self._lanes.was_due(lane, looked_at) for lane in wanted):
                return

    def _save_buckets(self) -> None:
        """Store the changed token buckets without delaying any attempt."""
        if not self._saving:
            saving = asyncio.create_task(self._bucket_storage.save())
            self._saving.add(saving)
            saving.add_done_callback(self._saving.discard)

    async def _lease(self, wanted: dict[Lane, int]) -> list[Lease]:
        self._lanes.begin_lookup(wanted)
        now = self._clock.now()
        # A task that is not expired by the confirmed time would be put back, and leased again.
        skip_expired = self._clock.confirmed() < now
        leased = await self._store.lease_due(wanted, now=now, skip_expired=skip_expired)
        for lane, next_due in leased.next_due.items():
            self._lanes.end_lookup(lane, next_due)
        return leased.leases

    async def _check_all_due(self) -> None:
        """Check once a minute which due tasks still exist, including those of blocked lanes."""
        now = self._clock.monotonic()
        if now < self._checked_at + CHECK_INTERVAL:
            return
        self._checked_at = now
        lanes = self._lanes.due_lanes()
        for start in range(0, len(lanes), CHECK_BATCH):
            await self._lease(dict.fromkeys(lanes[start : start + CHECK_BATCH], 0))

    def _record_backlog(self) -> None:
        if self._limits.room <= 0 or not self._lanes.is_behind():
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = self._clock.monotonic()

    def _start(self, lease: Lease, now: Moment) -> None:
        """Start a leased task's attempt; an unexpected exception ends this task only."""
        try:
            self._start_if_due(lease, now)
        except Exception as exc:
            self._recorder.record(
                self._attempts.broken(lease, "attempt could not be started", exc)
            )

    def _start_if_due(self, lease: Lease, now: Moment) -> None:
        task = lease.task
        lane = task.lane
        # Since the lease, the clock was set back, or a stop, a pause or an error came.
        if task.run_at > now or self._limits.of_state() or self._lanes.limits.of_pauses(lane):
            self._recorder.record(PutBack(lease))
            return
        if self._has_expired(lease, now):
            return
        origin = self._lanes.start_attempt(lane)
        self._observer.attempt_started(task, now=now)
        self._in_flight.add(asyncio.create_task(self._run(lease, lane, origin)))

    def _has_expired(self, lease: Lease, now: Moment) -> bool:
        """Return whether it is too late for an attempt; the task then dies without one.

        If it has expired only by a clock that was just set ahead, it is put back instead.
        """
        expires_at = lease.task.expires_at
        if expires_at is None or expires_at > now:
            return False
        if expires_at <= self._clock.confirmed():
            ended_at = self._clock.latest_possible()
            self._recorder.record(Finish(lease, Bury(Reason.EXPIRED), ended_at=ended_at))
        else:
            self._recorder.record(PutBack(lease))
        return True

    async def _run(self, lease: Lease, lane: Lane, origin: str) -> None:
        """Make one attempt and record how it ended, unless it is cut off."""
        own = asyncio.current_task()
        assert own is not None
        try:
            end = await self._attempts.run(lease, lane, origin)
        finally:
            # Without an await since the bell rang: the tick that it wakes must find the room.
            self._in_flight.discard(own)
        self._recorder.record(end)

    async def _charge_due(self) -> None:
        """Charge an attempt, unsent, to each due task of origins that are absent for too long."""
        for lane, error in self._lanes.charged().items():
            for lease in await self._lease({lane: CHARGE_BATCH}):
                try:
                    self._charge(lease, error)
                except Exception as exc:
                    self._recorder.record(
                        self._attempts.broken(lease, "task could not be charged", exc)
                    )

    def _charge(self, lease: Lease, error: str) -> None:
        if not self._has_expired(lease, self._clock.now()):
            self._recorder.record(self._attempts.charge(lease, error))

    async def _recover(self) -> float:
        self._behind_since = None
        try:
            await self._store.recover()
            # A write that was reported as failed may be on disk nevertheless.
            for lane, run_at in (await self._store.next_due()).items():
                self._lanes.add_waiting(lane, run_at)
        except StoreUnavailable:
            return self._clock.monotonic() + STORE_RETRY
        return self._clock.monotonic()


async def _all_done(tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(set(tasks))
