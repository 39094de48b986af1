"""``Engine``: the loops that make tasks run, put together."""

from __future__ import annotations

from random import Random

from poussetaches.core.moment import DAY, HOUR, Moment
from poussetaches.core.queue import Lane
from poussetaches.engine.clock import Bell, Clock
from poussetaches.engine.config import EngineConfig
from poussetaches.engine.dispatcher import Dispatcher
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.loop import Loop
from poussetaches.engine.maintenance import Maintenance
from poussetaches.engine.origins import Origins
from poussetaches.engine.prober import Prober
from poussetaches.engine.scheduler import Scheduler
from poussetaches.engine.sender import Sender
from poussetaches.store.base import Store

STUCK_AFTER = 60.0  # seconds; six times the longest sleep of a loop


class Engine:
    """Everything that happens by itself: deliveries, probes, schedules, maintenance."""

    def __init__(
        self, *, store: Store, sender: Sender, clock: Clock, random: Random, config: EngineConfig
    ) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        self._bell = Bell()
        self._schedule_bell = Bell()
        probe_bell = Bell()
        self.origins = Origins(hold_for=config.hold_for)
        self.lanes = Lanes(config.settings_of, origins=self.origins, clock=clock)
        self.dispatcher = Dispatcher(
            store=store,
            sender=sender,
            lanes=self.lanes,
            origins=self.origins,
            clock=clock,
            random=random,
            bell=self._bell,
            probe_bell=probe_bell,
            config=config,
        )
        self.prober = Prober(
            origins=self.origins,
            sender=sender,
            clock=clock,
            bell=probe_bell,
            dispatch_bell=self._bell,
        )
        self.scheduler = Scheduler(store=store, clock=clock, random=random)
        self.maintenance = Maintenance(store=store, clock=clock, lanes=self.lanes, config=config)
        self._loops = (
            Loop("dispatcher", self.dispatcher.tick, bell=self._bell, clock=clock),
            Loop("prober", self.prober.tick, bell=probe_bell, clock=clock),
            Loop("scheduler", self.scheduler.tick, bell=self._schedule_bell, clock=clock),
            Loop("maintenance", self.maintenance.tick, bell=Bell(), clock=clock),
        )

    async def load(self) -> None:
        """Learn what the store holds, and listen to it from then on."""
        self._store.listen(self)
        now = self._clock.now()
        for lane in await self._store.lanes_used_since(Moment(now - DAY - HOUR)):
            self.lanes.used(lane, now)
        for lane, run_at in (await self._store.next_due()).items():
            self.lanes.waits(lane, run_at)
        self.dispatcher.pause(await self._store.paused())

    def start(self) -> None:
        """Begin to deliver what ``load`` has learnt of."""
        for loop in self._loops:
            loop.start()

    async def stop(self, drain_timeout: float) -> None:
        """Start no attempts; give those in flight ``drain_timeout`` seconds to end."""
        await self.dispatcher.drain(drain_timeout)
        for loop in self._loops:
            await loop.stop()
        await self.dispatcher.settle()  # a tick that the drain overtook may have put tasks back
        await self.prober.stop()
        await self._sender.close()

    def cut_off(self) -> None:
        """End the attempts in flight now; they will be made again."""
        self.dispatcher.cut_off()

    @property
    def paused(self) -> bool:
        """Tell whether the server is paused."""
        return self.dispatcher.paused

    @property
    def in_flight(self) -> int:
        """How many attempts are on the wire."""
        return self.dispatcher.in_flight

    def held(self) -> dict[str, str]:
        """Return the origins that are held, with the errors that they are held for."""
        return self.origins.held()

    def stuck(self) -> list[str]:
        """Return what does not move and ought to, in words; empty when all is well.

        Only what a restart can cure counts: a store in trouble or a held origin does not.
        """
        if self._store.trouble is not None:
            return []
        now = self._clock.monotonic()
        found = [
            f"the {loop.name} has not turned for {now - loop.last_turn_at:.0f} s"
            for loop in self._loops
            if now - loop.last_turn_at > STUCK_AFTER
        ]
        since = self.dispatcher.behind_since
        if since is not None and now - since > STUCK_AFTER:
            found.append("a due task that nothing holds is not being started")
        return found

    # What the store tells

    def task_waits(self, lane: Lane, run_at: Moment) -> None:
        """Have a task started when it is due."""
        self.lanes.waits(lane, run_at)
        self._bell.ring()

    def schedules_changed(self) -> None:
        """Have the schedules looked at."""
        self._schedule_bell.ring()

    def pause_changed(self, paused: bool) -> None:
        """Pause or resume deliveries."""
        self.dispatcher.pause(paused)
