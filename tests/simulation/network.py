"""Simulated receivers: fast, slow, silent, failing, away; and what they say in which mood."""

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
UNKNOWN = Outcome(error="the name cannot be resolved", cause=Cause.UNKNOWN_HOST)
OK = Outcome(status=200, body=b"done")


class Mood(StrEnum):
    """How a receiver answers."""

    WELL = "well"
    SLOW = "slow"
    SILENT = "silent"
    AWAY = "away"
    FLAPPING = "flapping"
    FAILING = "failing"
    UNKNOWN_HOST = "unknown host"


MOODS = list(Mood)
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
class Absence:
    """From the first attempt, or probe, that did not reach an origin to its next answer."""

    began_at: float
    ended_at: float | None = None

    def lasted(self, now: float) -> float:
        """Return for how many seconds, so far."""
        return (now if self.ended_at is None else self.ended_at) - self.began_at


class Network:
    """Carries attempts to simulated receivers; a ``Sender``. It outlives the server."""

    def __init__(self, ledger: Ledger, random: Random, seen: Counter[str]) -> None:
        self._ledger = ledger
        self._random = random
        self._seen = seen
        self.moods: dict[str, Mood] = {}
        self.is_dead: Callable[[], bool] = _always
        self.now: Callable[[], float] = float
        self.note: Callable[[str, str], None] = _ignore
        self._absences: dict[str, list[Absence]] = {}
        self._shortage: Outcome | None = None

    def run_out(self) -> None:
        """Fail some connections for want of descriptors or ports from now on."""
        self._shortage = self._random.choice((NO_DESCRIPTORS, NO_DESCRIPTORS, NO_PORTS))

    def have_enough(self) -> None:
        """End the shortage."""
        self._shortage = None

    @property
    def is_short(self) -> bool:
        """Whether connections fail for want of descriptors or ports."""
        return self._shortage is not None

    def was_charged(self, origin: str, since: float, hold_for: float) -> bool:
        """Tell whether an origin was away for longer than it may be, at some time since."""
        return any(
            absence.lasted(self.now()) >= hold_for and (absence.ended_at or since) >= since
            for absence in self._absences.get(origin, ())
        )

    def any_was_charged(self, hold_for: float) -> bool:
        """Tell whether any origin ever was."""
        return any(self.was_charged(origin, 0.0, hold_for) for origin in self._absences)

    def server_is_back(self) -> None:
        """End all absences: a server that was just started knows of none."""
        for origin in self._absences:
            self._end_absence(origin)

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
        self._seen[f"answer of a receiver that is {self.moods.get(origin, Mood.WELL)}"] += 1
        self.note(sent.task_id, str(outcome.status or outcome.error))
        self._note_absence(origin, outcome)
        self._ledger.ended(sent, outcome)
        return outcome

    async def probe(self, origin: str) -> Outcome | None:
        """Connect, and hang up."""
        await asyncio.sleep(self._random.random() * 0.01)
        mood = self.moods.get(origin, Mood.WELL)
        self._seen["probe"] += 1
        shortage = self._met_shortage()
        if shortage is not None:
            self._note_absence(origin, shortage)
            return shortage
        if mood in (Mood.AWAY, Mood.UNKNOWN_HOST):
            if self._random.random() < 0.1:
                await asyncio.sleep(CONNECT_TIMEOUT)
            self._begin_absence(origin)
            return REFUSED
        if mood is Mood.FLAPPING and self._random.random() < 0.5:
            self._begin_absence(origin)
            return REFUSED
        return None

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def _note_absence(self, origin: str, outcome: Outcome) -> None:
        if outcome.error is None:
            self._end_absence(origin)
        elif outcome.unreachable:
            self._begin_absence(origin)

    def _begin_absence(self, origin: str) -> None:
        absences = self._absences.setdefault(origin, [])
        if not absences or absences[-1].ended_at is not None:
            absences.append(Absence(self.now()))

    def _end_absence(self, origin: str) -> None:
        absences = self._absences.get(origin)
        if absences and absences[-1].ended_at is None:
            absences[-1].ended_at = self.now()

    async def _answer(self, origin: str, timeout: float) -> Outcome:  # noqa: ASYNC109  # of one of ours
        random, mood = self._random, self.moods.get(origin, Mood.WELL)
        shortage = self._met_shortage()
        if shortage is not None:
            await asyncio.sleep(0)
            return shortage
        wait = random.random() * 0.02
        outcome = OK
        if mood is Mood.SLOW:
            wait = random.random() * 40
        elif mood is Mood.SILENT:
            wait = timeout
        elif mood is Mood.AWAY or (mood is Mood.FLAPPING and random.random() < 0.5):
            outcome = REFUSED
        elif mood is Mood.UNKNOWN_HOST:
            outcome = UNKNOWN
        elif mood is Mood.FAILING:
            outcome = random.choice((*FAILURES, OK))
        await asyncio.sleep(min(wait, timeout))
        if wait >= timeout:
            return Outcome(error=f"no answer within {timeout:g} s")
        return outcome

    def _met_shortage(self) -> Outcome | None:
        """Return the outcome of a connection that meets the shortage; None if it does not."""
        if self._shortage is None or self._random.random() < 0.3:
            return None
        self._seen[f"shortage: {self._shortage.error}"] += 1
        return self._shortage


def _always() -> bool:
    return True


def _ignore(what: str, about: str) -> None:
    """Do not write it down."""


async def _never() -> None:
    """Wait for an answer that will not come, since nobody lives to have it."""
    await asyncio.get_running_loop().create_future()
