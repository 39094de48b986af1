"""Simulated receivers: fast, slow, silent, failing, unreachable or flapping."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from poussetaches.core.cause import Cause
from poussetaches.core.target import origin_of
from poussetaches.core.task import Outcome
from poussetaches.engine.request import Request
from tests.fakes import NO_DESCRIPTORS, NO_PORTS
from tests.simulation.ledger import Ledger

CONNECT_TIMEOUT = 10.0  # seconds
REFUSED = Outcome(error="cannot connect: Connection refused", cause=Cause.NOT_CONNECTED)
RESTARTED = Outcome(error="the connection was closed", cause=Cause.RESTARTED)
UNKNOWN = Outcome(error="the name cannot be resolved", cause=Cause.UNKNOWN_HOST)
OK = Outcome(status=200, body=b"done")


class Behaviour(StrEnum):
    """The way in which a receiver answers."""

    HEALTHY = "healthy"
    SLOW = "slow"
    SILENT = "silent"
    UNREACHABLE = "unreachable"
    FLAPPING = "flapping"
    FAILING = "failing"
    UNKNOWN_HOST = "unknown host"


BEHAVIOURS = list(Behaviour)
FAILURES = (
    Outcome(status=500, body=b"went wrong"),
    Outcome(status=500, body=b"went wrong"),
    Outcome(status=502),
    Outcome(status=404),
    Outcome(status=302),
    Outcome(status=503, retry_after=20.0),
    Outcome(status=429, retry_after=5.5),
    Outcome(status=429),
    Outcome(status=410, refused=True),
    Outcome(status=200, error="the answer broke off"),
    Outcome(error="connection reset by peer"),
    Outcome(error="the answer is not HTTP"),
)


@dataclass(slots=True)
class Outage:
    """The time from the first attempt or probe that did not reach an origin to its next answer."""

    began_at: float
    ended_at: float | None = None

    def duration(self, now: float) -> float:
        """Return its seconds so far."""
        return (now if self.ended_at is None else self.ended_at) - self.began_at


class Network:
    """Carries attempts to simulated receivers; a ``Sender``. It outlives the server."""

    def __init__(self, ledger: Ledger, random: Random, seen: Counter[str]) -> None:
        self._ledger = ledger
        self._random = random
        self._seen = seen
        self.behaviours: dict[str, Behaviour] = {}
        self.is_dead: Callable[[], bool] = _always
        self.now: Callable[[], float] = float
        self.note: Callable[[str, str], None] = _ignore
        self._outages: dict[str, list[Outage]] = {}
        self._shortage: Outcome | None = None

    def begin_shortage(self) -> None:
        """Fail some connections from now on, as if descriptors or ports had run out."""
        self._shortage = self._random.choice((NO_DESCRIPTORS, NO_DESCRIPTORS, NO_PORTS))

    def end_shortage(self) -> None:
        """End the shortage."""
        self._shortage = None

    @property
    def has_shortage(self) -> bool:
        """Whether connections fail because descriptors or ports have run out."""
        return self._shortage is not None

    def was_charged(self, origin: str, since: float, hold_for: float) -> bool:
        """Return whether an outage of an origin since then was long enough to charge its tasks."""
        return any(
            outage.duration(self.now()) >= hold_for and (outage.ended_at or since) >= since
            for outage in self._outages.get(origin, ())
        )

    def any_was_charged(self, hold_for: float) -> bool:
        """Return whether an outage of any origin was long enough to charge its tasks."""
        return any(self.was_charged(origin, 0.0, hold_for) for origin in self._outages)

    def server_started(self) -> None:
        """End all outages: a server that has just started knows none."""
        for origin in self._outages:
            self._end_outage(origin)

    async def send(self, request: Request) -> Outcome:
        """Make an attempt."""
        if self.is_dead():
            await _never()
        origin = origin_of(request.url)
        self.note(f"{request.method} {request.url}", request.headers["Poussetaches-Task-ID"])
        sent = self._ledger.sending(request, origin)
        try:
            outcome = await self._answer(origin, request.timeout)
        except asyncio.CancelledError:
            if not self.is_dead():
                self._ledger.cut_off(sent)
            raise
        if self.is_dead():
            await _never()
        self._seen[
            f"answer of a receiver that is {self.behaviours.get(origin, Behaviour.HEALTHY)}"
        ] += 1
        self.note(sent.task_id, str(outcome.status or outcome.error))
        self._record_outage(origin, outcome)
        self._ledger.ended(sent, outcome)
        return outcome

    async def probe(self, origin: str) -> Outcome | None:
        """Connect and disconnect."""
        await asyncio.sleep(self._random.random() * 0.01)
        behaviour = self.behaviours.get(origin, Behaviour.HEALTHY)
        self._seen["probe"] += 1
        shortage = self._shortage_outcome()
        if shortage is not None:
            self._record_outage(origin, shortage)
            return shortage
        if behaviour in (Behaviour.UNREACHABLE, Behaviour.UNKNOWN_HOST):
            if self._random.random() < 0.1:
                await asyncio.sleep(CONNECT_TIMEOUT)
            self._begin_outage(origin)
            return REFUSED
        if behaviour is Behaviour.FLAPPING and self._random.random() < 0.5:
            self._begin_outage(origin)
            return REFUSED
        return None

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def _record_outage(self, origin: str, outcome: Outcome) -> None:
        if outcome.error is None:
            self._end_outage(origin)
        elif outcome.unreachable:
            self._begin_outage(origin)

    def _begin_outage(self, origin: str) -> None:
        outages = self._outages.setdefault(origin, [])
        if not outages or outages[-1].ended_at is not None:
            outages.append(Outage(self.now()))

    def _end_outage(self, origin: str) -> None:
        outages = self._outages.get(origin)
        if outages and outages[-1].ended_at is None:
            outages[-1].ended_at = self.now()

    async def _answer(self, origin: str, timeout: float) -> Outcome:  # noqa: ASYNC109  # simulated
        random, behaviour = self._random, self.behaviours.get(origin, Behaviour.HEALTHY)
        shortage = self._shortage_outcome()
        if shortage is not None:
            await asyncio.sleep(0)
            return shortage
        wait = random.random() * 0.02
        outcome = OK
        if behaviour is Behaviour.SLOW:
            wait = random.random() * 40
        elif behaviour is Behaviour.SILENT:
            wait = timeout
        elif behaviour is Behaviour.UNREACHABLE or (
            behaviour is Behaviour.FLAPPING and random.random() < 0.5
        ):
            outcome = REFUSED if random.random() < 0.5 else RESTARTED
        elif behaviour is Behaviour.UNKNOWN_HOST:
            outcome = UNKNOWN
        elif behaviour is Behaviour.FAILING:
            outcome = random.choice((*FAILURES, OK))
        await asyncio.sleep(min(wait, timeout))
        if wait >= timeout:
            return Outcome(error=f"no answer within {timeout:g} s")
        return outcome

    def _shortage_outcome(self) -> Outcome | None:
        """Return the outcome of a connection that fails by the shortage; None if it succeeds."""
        if self._shortage is None or self._random.random() < 0.3:
            return None
        self._seen[f"shortage: {self._shortage.error}"] += 1
        return self._shortage


def _always() -> bool:
    return True


def _ignore(what: str, about: str) -> None:
    """Do not record the event."""


async def _never() -> None:
    """Wait forever, for a server that was killed."""
    await asyncio.get_running_loop().create_future()
