"""Fakes of the clock and the network: small classes that a test controls."""

from __future__ import annotations

import asyncio
from collections import deque

from poussetaches.core.cause import Cause
from poussetaches.core.moment import SECOND, ClockReading, Moment
from poussetaches.core.target import origin_of
from poussetaches.core.task import Outcome
from poussetaches.engine.request import Request
from poussetaches.engine.virtual_clock import VirtualClock
from tests.factories import NOW

# Steps of the event loop: more than the longest chain of callbacks in the engine.
ENOUGH_STEPS = 50

AWAY = Outcome(error="cannot connect: Connection refused", cause=Cause.NOT_CONNECTED)
UNKNOWN_HOST = Outcome(error="the name cannot be resolved", cause=Cause.UNKNOWN_HOST)
NO_DESCRIPTORS = Outcome(error="Too many open files", cause=Cause.OUT_OF_RESOURCES)
NO_PORTS = Outcome(error="no local port", cause=Cause.NO_LOCAL_PORT)

# A status means a response without a body; an exception is a defect of the sender.
Reply = int | Outcome | BaseException


async def let_run(steps: int = ENOUGH_STEPS) -> None:
    """Run all callbacks that are ready."""
    loop = asyncio.get_running_loop()
    for _ in range(steps):
        turn: asyncio.Future[None] = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


class FakeClock(VirtualClock):
    """The virtual clock of a machine that can be suspended, and whose wall clock can be set."""

    def __init__(self, now: Moment = NOW) -> None:
        super().__init__(now)
        self._slept = 0
        self._restarts = 0

    @property
    def boot_id(self) -> str:
        """The number of this start of the machine."""
        return f"{super().boot_id}, start {self._restarts}"

    def read(self) -> ClockReading:
        """Return the wall clock's time together with the uptime."""
        reading = super().read()
        return reading._replace(uptime=reading.uptime + self._slept)

    def jump(self, seconds: float) -> None:
        """Set the wall clock, without advancing the time."""
        self._now = Moment(self._now + round(seconds * SECOND))

    def suspend_machine(self, seconds: float) -> None:
        """Advance the time without the monotonic clock."""
        self.jump(seconds)
        self._slept += round(seconds * SECOND)

    def restart_machine(self, *, off_for: float) -> None:
        """Advance only the wall clock."""
        self.jump(off_for)
        self._restarts += 1


class Panic(BaseException):
    """A panic of a library written in Rust, which is not an ``Exception``."""


class CreepingClock(FakeClock):
    """A clock that advances by a microsecond at each reading, as time does within a tick."""

    def now(self) -> Moment:
        """Return the wall clock's time, a microsecond later at each call."""
        self.advance(1 / SECOND)
        return super().now()


class ScriptedSender:
    """Gives the replies that a test sets, 200 by default, and records the requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.probes: list[str] = []
        self.closed = False
        self.probes_hang = False
        self._script: deque[Reply] = deque()
        self._scripts: dict[str, deque[Reply]] = {}
        self._always: dict[str | None, Reply] = {}
        self._away: set[str] = set()
        self._hanging: set[str | None] = set()
        self._hung: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._probe_ends: deque[Outcome | None] = deque()

    def replies(self, *replies: Reply, to: str | None = None) -> None:
        """Give these replies in order, to one URL or to all others."""
        script = self._script if to is None else self._scripts.setdefault(to, deque())
        script.extend(replies)

    def always(self, reply: Reply, *, to: str | None = None) -> None:
        """Give this reply after the replies in order are used up."""
        self._always[to] = reply

    def hangs(self, *, to: str | None = None) -> None:
        """Keep requests, to one URL or to all, without a reply until they are released."""
        self._hanging.add(to)

    def hangs_no_more(self) -> None:
        """Reply to the hanging requests, and to later ones at once."""
        self._hanging.clear()
        self.release(len(self._hung))

    def release(self, count: int = 1, *, to: str | None = None) -> None:
        """Reply to hanging requests, in order."""
        for url, future in list(self._hung):
            if count and to in (None, url):
                count -= 1
                self._hung.remove((url, future))
                if not future.done():
                    future.set_result(None)
        assert count == 0, "fewer requests hang"

    def goes_away(self, origin: str) -> None:
        """Refuse every connection to an origin."""
        self._away.add(origin)

    def comes_back(self, origin: str) -> None:
        """Accept connections to an origin again."""
        self._away.remove(origin)

    def probe_finds(self, *ends: Outcome | None) -> None:
        """Give these results of the next probes; None is a success."""
        self._probe_ends.extend(ends)

    @property
    def urls(self) -> list[str]:
        """The URLs of all requests, in order."""
        return [request.url for request in self.requests]

    @property
    def task_ids(self) -> list[str]:
        """The ids of the tasks of all requests, in order."""
        return [request.headers["Poussetaches-Task-ID"] for request in self.requests]

    @property
    def hung_count(self) -> int:
        """The number of hanging requests."""
        return len(self._hung)

    def attempts_of(self, task_id: str) -> list[int]:
        """Return the numbers of a task's attempts."""
        return [
            int(request.headers["Poussetaches-Attempt"])
            for request in self.requests
            if request.headers["Poussetaches-Task-ID"] == task_id
        ]

    async def send(self, request: Request) -> Outcome:
        """Return the next reply."""
        self.requests.append(request)
        if origin_of(request.url) in self._away:
            return AWAY
        if self._hanging & {None, request.url}:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._hung.append((request.url, future))
            await future
        reply = self._reply_to(request.url)
        if isinstance(reply, BaseException):
            raise reply
        return Outcome(status=reply) if isinstance(reply, int) else reply

    async def probe(self, origin: str) -> Outcome | None:
        """Return the next result; without one, whether the origin accepts connections."""
        self.probes.append(origin)
        if self.probes_hang:
            await asyncio.get_running_loop().create_future()
        if self._probe_ends:
            return self._probe_ends.popleft()
        return AWAY if origin in self._away else None

    async def close(self) -> None:
        """Record that the sender was closed."""
        self.closed = True

    def _reply_to(self, url: str) -> Reply:
        script = self._scripts.get(url) or self._script
        if script:
            return script.popleft()
        return self._always.get(url, self._always.get(None, 200))
