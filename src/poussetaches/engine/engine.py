"""``Engine``: builds and runs the loops that deliver tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from random import Random

from poussetaches.core.moment import DAY, HOUR, SECOND, Moment
from poussetaches.core.progress_report import Progress
from poussetaches.core.task import Task
from poussetaches.core.wait_reason import WaitingFor
from poussetaches.engine.attempt_progress import RunningAttempts
from poussetaches.engine.attempt_runner import AttemptRunner
from poussetaches.engine.bucket_storage import BucketStorage
from poussetaches.engine.clock import Bell, Clock
from poussetaches.engine.clock_watch import ClockWatch
from poussetaches.engine.defects import Defects
from poussetaches.engine.dispatcher import Dispatcher
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.explainer import Explainer
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.limits import Limit
from poussetaches.engine.loop import Loop, Tick
from poussetaches.engine.maintenance import Maintenance
from poussetaches.engine.observer import GuardedObserver, NullObserver, Observer
from poussetaches.engine.origins import Origins
from poussetaches.engine.prober import Prober
from poussetaches.engine.queue_registry import Queues
from poussetaches.engine.recorder import Recorder
from poussetaches.engine.scheduler import Scheduler
from poussetaches.engine.sender import Sender
from poussetaches.engine.server_limits import ServerLimits
from poussetaches.engine.shortage import Shortage
from poussetaches.engine.watchdog import Watchdog
from poussetaches.store.base import News, Store

log = logging.getLogger(__name__)


class Engine:
    """Runs deliveries, probes, schedules and maintenance."""

    def __init__(
        self,
        *,
        store: Store,
        sender: Sender,
        clock: Clock,
        random: Random,
        config: EngineConfig,
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        self._bell = Bell()
        self.defects = Defects()
        self._schedule_bell = Bell()
        self._probe_bell = Bell()
        self.queues = Queues(
            config.queue, original_retry=config.original_retry, allowed=config.allowed
        )
        self.origins = Origins(hold_for=config.hold_for, max_probes=config.max_probes)
        self._shortage = Shortage(clock, in_flight=lambda: self.in_flight)
        self.lanes = Lanes(self.queues, origins=self.origins, clock=clock)
        self._clock_watch = ClockWatch(store=store, clock=clock, lanes=self.lanes)
        self._bucket_storage = BucketStorage(
            store=store, clock=clock, buckets=self.lanes.limits.buckets, defects=self.defects
        )
        self._running = RunningAttempts(config.attempt_secret)
        self.limits = ServerLimits(
            store=store,
            shortage=self._shortage,
            in_flight=lambda: self.in_flight,
            max_in_flight=config.max_in_flight,
        )
        guarded = GuardedObserver(observer or NullObserver(), self.defects)
        attempts = self._new_attempts(config, guarded, random=random)
        self.dispatcher = self._new_dispatcher(attempts, guarded)
        self.prober = self._new_prober()
        self.scheduler = Scheduler(store=store, clock=clock, random=random, defects=self.defects)
        self.maintenance = Maintenance(
            store=store,
            clock=clock,
            lanes=self.lanes,
            queues=self.queues,
            defects=self.defects,
        )
        self._explainer = Explainer(
            server=self.limits, lanes=self.lanes, queues=self.queues, clock=clock
        )
        self._watchdog = Watchdog(clock)
        self.loops = (
            self._loop("dispatcher", self._dispatch, bell=self._bell),
            self._loop("prober", self._probe, bell=self._probe_bell),
            self._loop("scheduler", self.scheduler.tick, bell=self._schedule_bell),
        )
        # Loops that no task waits for.
        self.chores = (self._loop("maintenance", self.maintenance.tick, bell=Bell()),)

    def _new_attempts(
        self, config: EngineConfig, observer: Observer, *, random: Random
    ) -> AttemptRunner:
        return AttemptRunner(
            sender=self._sender,
            observer=observer,
            queues=self.queues,
            lanes=self.lanes,
            origins=self.origins,
            shortage=self._shortage,
            clock=self._clock,
            running=self._running,
            random=random,
            bell=self._bell,
            probe_bell=self._probe_bell,
            config=config,
            defects=self.defects,
        )

    def _new_prober(self) -> Prober:
        return Prober(
            origins=self.origins,
            sender=self._sender,
            shortage=self._shortage,
            clock=self._clock,
            bell=self._probe_bell,
            dispatch_bell=self._bell,
            defects=self.defects,
        )

    def _new_dispatcher(self, attempts: AttemptRunner, observer: Observer) -> Dispatcher:
        return Dispatcher(
            store=self._store,
            attempts=attempts,
            recorder=Recorder(store=self._store, clock=self._clock, defects=self.defects),
            observer=observer,
            lanes=self.lanes,
            limits=self.limits,
            bucket_storage=self._bucket_storage,
            clock=self._clock,
            clock_watch=self._clock_watch,
        )

    async def load(self) -> None:
        """Read the state of the store, and listen to its commits from then on."""
        self._store.listen(self)
        await self._clock_watch.load()
        await self._bucket_storage.load()
        self.queues.update(await self._store.queues())
        self.lanes.pause(await self._store.paused())
        now = self._clock.now()
        for lane in await self._store.lanes_used_since(Moment(now - DAY - HOUR)):
            self.lanes.record_use(lane, now)
        for lane, run_at in (await self._store.next_due()).items():
            self.lanes.add_waiting(lane, run_at)
        self._bell.ring()

    def postpone_attempts(self) -> None:
        """Make no attempts until ``start`` is called, and give that as the reason."""
        self.limits.is_starting = True

    def start(self) -> None:
        """Start to deliver tasks; ``load`` was called before."""
        self.limits.is_starting = False
        self._watchdog.start()
        for loop in (*self.loops, *self.chores):
            loop.start()

    async def stop(self, drain_timeout: float) -> None:
        """Start no attempts; give those in flight ``drain_timeout`` seconds to end."""
        await self.dispatcher.drain(drain_timeout)
        for loop in (*self.loops, *self.chores):
            await loop.stop()
        await self.dispatcher.settle()  # a tick that the drain overtook may have put tasks back
        await self.prober.stop()
        await self._sender.close()

    def cut_off(self) -> None:
        """End the attempts in flight now; they will be made again."""
        self.dispatcher.cut_off()

    async def settle(self) -> None:
        """Wait until no attempt and no probe is under way, and every outcome is recorded."""
        await self.dispatcher.settle()
        await self.prober.settle()

    def committed(self, news: News) -> None:
        """Apply the changes of a commit."""
        self.queues.update(news.queues)
        for name in news.queues:
            self.lanes.queue_changed(name)
        if news.paused is not None:
            self.lanes.pause(news.paused)
        for lane, run_at in news.waits.items():
            self.lanes.add_waiting(lane, run_at)
        if news.queues or news.waits or news.paused is not None or news.trouble:
            self._bell.ring()
        if news.schedules_changed:
            self._schedule_bell.ring()

    @property
    def paused(self) -> bool:
        """Whether the server is paused."""
        return self.lanes.limits.server_paused

    @property
    def internal_error_count(self) -> int:
        """The number of internal errors since the start, without those of the store."""
        return self.defects.count

    @property
    def in_flight(self) -> int:
        """The number of attempts in flight."""
        return self.dispatcher.in_flight

    @property
    def shortage(self) -> str | None:
        """The last shortage of resources, if there was one within the last minute."""
        return self._shortage.error

    @property
    def clock_leap(self) -> float | None:
        """Seconds that the clock is ahead of the confirmed time; None if it is not."""
        leap = self._clock_watch.leap
        return leap / SECOND if leap else None

    def confirmed(self) -> Moment:
        """Return the time by which keys expire: it ignores a clock that was just set ahead."""
        return self._clock.confirmed()

    def latest_possible(self) -> Moment:
        """Return the time from which keys are kept: it ignores a clock that was just set back."""
        return self._clock.latest_possible()

    def progress_of(self, task_id: str) -> Progress | None:
        """Return the last progress report of a task's running attempt."""
        return self._running.progress_of(task_id)

    def report_progress(self, task_id: str, token: str, progress: Progress) -> Task:
        """Keep the progress of a running attempt, and return its task.

        Raises:
            AttemptOver: no attempt of this task with this token is running.
        """
        return self._running.report(task_id, token, progress)

    def held(self) -> dict[str, str]:
        """Return the held origins, with the errors that caused the holds."""
        return self.origins.held()

    def waiting_for(self, task: Task) -> list[WaitingFor]:
        """Return why a waiting task waits, without the tasks ahead of it."""
        return self._explainer.waiting_for(task)

    def queue_waiting_for(self, queue: str) -> list[WaitingFor]:
        """Return why a queue starts no attempts."""
        return self._explainer.queue_waiting_for(queue)

    def wait_reasons(self, tasks: Iterable[Task]) -> list[list[Limit] | None]:
        """Return the limits that each task of a list waits for; None if it does not wait."""
        return self._explainer.wait_reasons(tasks)

    def oldest_due_at(self, queue: str | None) -> Moment | None:
        """Return when the oldest due task of a queue, or of all queues (None), became due."""
        return self._explainer.oldest_due_at(queue)

    def stuck(self) -> list[str]:
        """Return a description of each part that is stuck.

        Problems that a restart cannot solve are omitted: a failing store, a held origin.
        """
        if self._store.trouble is not None:
            return []
        return self._watchdog.stuck(
            (*self.loops, *self.chores),
            behind_since=self.dispatcher.behind_since,
            recording_since=self.dispatcher.recording_since,
        )

    def _loop(self, name: str, tick: Tick, *, bell: Bell) -> Loop:
        return Loop(name, tick, bell=bell, clock=self._clock, defects=self.defects)

    async def _dispatch(self) -> float | None:
        self._note_standstill()
        return await self.dispatcher.tick()

    async def _probe(self) -> float | None:
        self._note_standstill()
        return await self.prober.tick()

    def _note_standstill(self) -> None:
        """Discount the time for which the process was suspended, before anything else is done.

        The watchdog mainly relies on the prober, whose turns never wait for anything.
        """
        seconds = self._watchdog.beat()
        if seconds:
            log.warning("process was suspended", extra={"seconds": round(seconds, 3)})
            self.origins.discount_suspension(seconds)
