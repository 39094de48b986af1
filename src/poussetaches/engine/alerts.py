"""Alerts: problems that need attention, posted to a URL in the form of Slack and Mattermost."""

from __future__ import annotations

import asyncio
import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from poussetaches.core.cause import Cause
from poussetaches.core.failure_group import FailureGroup
from poussetaches.core.moment import Moment, seconds_between
from poussetaches.core.task import Outcome
from poussetaches.engine.clock import Bell, Clock
from poussetaches.engine.defects import Defects, raise_end
from poussetaches.engine.queue_registry import Queues
from poussetaches.engine.request import USER_AGENT, Request
from poussetaches.engine.sender import Sender
from poussetaches.store.base import News, Store

HELD_FOR = 120.0  # seconds that an origin is held before an alert
LATE_BY = 300.0  # seconds that the oldest due task is late before an alert
INTERVAL = 10.0  # seconds between checks
AT_MOST_EVERY = 3600.0  # seconds between two alerts about the same
GROUPS_EVERY = 60.0  # seconds between alerts about new failure groups: those meanwhile are merged
MOST_NAMED = 10  # of a kind in one alert; the others are counted
MOST_GROUPS = 1000  # that are remembered until they are reported; the others are counted
TIMEOUT = 10.0  # seconds for a post
MOST_POSTS = 4  # of the same text, the first one included
LONGEST = 200  # characters of a path, or of an error
ACCEPTED = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)

# Slack's three markup characters and the escapes it requires; Mattermost, Teams and Google Chat
# understand these, too.
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_BREAK = "\u200b"  # zero-width space
# Other markup of chats: @everyone and @channel, and [words](https://anywhere).
_MARKUP = re.compile(r"(?<=@)(?=\w)|(?<=\])(?=\()")

K = TypeVar("K")

log = logging.getLogger(__name__)


class WatchedState(Protocol):
    """The state that alerts depend on."""

    @property
    def paused(self) -> bool:
        """Whether the server is paused."""

    @property
    def queues(self) -> Queues:
        """The queues."""

    def held(self) -> Mapping[str, str]:
        """Return the held origins, with the errors that caused the holds."""

    def oldest_due_at(self, queue: str | None) -> Moment | None:
        """Return when the oldest due task of a queue, or of all queues (None), became due."""


class Alarm(NamedTuple):
    """A problem that lasts, with the texts for its beginning and its end."""

    kind: str
    subject: str
    text: str
    over: str

    @property
    def key(self) -> tuple[str, str]:
        """The subject of the alert."""
        return self.kind, self.subject


class Alerts:
    """Checks for problems every few seconds, and posts new ones. Never affects deliveries."""

    def __init__(
        self,
        url: str,
        *,
        store: Store,
        sender: Sender,
        watched: WatchedState,
        clock: Clock,
        bell: Bell,
        defects: Defects,
    ) -> None:
        self._url = url
        self._store = store
        self._sender = sender
        self._watched = watched
        self._clock = clock
        self._bell = bell
        self._defects = defects
        self._held_since: dict[str, float] = {}
        self._alarms = Alarms()
        self._groups = NewGroups()
        self._unsent: list[Unsent] = []
        self._posting: asyncio.Task[None] | None = None
        self._stopped = False

    def committed(self, news: News) -> None:
        """Record failures of a new kind."""
        if news.groups:
            self._groups.add(news.groups)
            self._bell.ring()

    async def tick(self) -> float | None:
        """Post new alerts; return when to check again."""
        now = self._clock.monotonic()
        texts = [*self._groups.due_texts(now), *self._alarms.due_texts(self._found(now), now)]
        self._unsent += [Unsent(text) for text in texts]
        is_free = self._posting is None or self._posting.done()
        if self._unsent and is_free and not self._stopped:
            self._posting = asyncio.create_task(self._post())
        return now + INTERVAL

    async def settle(self) -> None:
        """Wait until nothing is being posted."""
        if self._posting is not None:
            await asyncio.wait({self._posting})

    async def stop(self) -> None:
        """Cancel the current post, and make no more."""
        self._stopped = True
        if self._posting is not None:
            self._posting.cancel()
            await asyncio.wait({self._posting})

    def _found(self, now: float) -> list[Alarm]:
        """Return the current problems."""
        return [*self._held_alarms(now), *self._late_alarm(), *self._store_alarm()]

    def _held_alarms(self, now: float) -> list[Alarm]:
        held = self._watched.held()
        self._held_since = {origin: self._held_since.get(origin, now) for origin in held}
        return [
            Alarm(
                "held",
                origin,
                f"{origin} could not be reached for {_minutes(now - since)}: {held[origin]}. Its "
                "tasks wait until it is back; GET /v1/stats lists the origins that are held.",
                f"{origin} is no longer held.",
            )
            for origin, since in self._held_since.items()
            if now - since >= HELD_FOR
        ]

    def _late_alarm(self) -> list[Alarm]:
        queue, lateness = self._latest_queue()
        if lateness < LATE_BY:
            return []
        text = (
            f"The oldest due task of queue {queue} is {_minutes(lateness)} late; "
            f"GET /v1/queues/{queue} says what the queue waits for."
        )
        over = "Due tasks are no longer late, except in paused queues."
        return [Alarm("late", "", text, over)]

    def _latest_queue(self) -> tuple[str, float]:
        """Return the queue with the latest due task, paused queues excepted, and its lateness."""
        found = ("", 0.0)
        if self._watched.paused or self._lateness(None) < LATE_BY:
            return found
        for queue in self._watched.queues:
            lateness = 0.0 if queue.paused else self._lateness(queue.name)
            if lateness > found[1]:
                found = (queue.name, lateness)
        return found

    def _lateness(self, queue: str | None) -> float:
        due_at = self._watched.oldest_due_at(queue)
        return 0.0 if due_at is None else seconds_between(due_at, self._clock.now())

    def _store_alarm(self) -> list[Alarm]:
        trouble = self._store.trouble
        if trouble is None:
            return []
        what = "The disk is full" if trouble.full else "The store cannot be written"
        advice = "make room on the disk" if trouble.full else "the log says more"
        text = (
            f"{what} ({trouble.reason}): pushes are refused and no attempt starts until it can "
            f"be written again; {advice}."
        )
        return [Alarm("store", "", text, "The store can be written again.")]

    async def _post(self) -> None:
        """Post all unsent alerts; if a post fails, it is repeated after later checks."""
        posted, self._unsent = self._unsent, []
        outcome = await self._send([each.text for each in posted])
        if outcome.error is None and outcome.status in ACCEPTED:
            return
        # The URL is not logged, since it is a credential.
        fields = {"status": outcome.status, "error": outcome.error}
        log.warning("alert not delivered", extra=fields)
        if not outcome.out_of_resources:
            for each in posted:
                each.post_count += 1
        self._unsent = [each for each in posted if each.post_count < MOST_POSTS] + self._unsent

    async def _send(self, texts: Sequence[str]) -> Outcome:
        text = inert("poussetaches: " + "\n".join(shortened(texts)))
        request = Request(
            method="POST",
            url=self._url,
            headers={"Content-Type": "application/json", "User-Agent": USER_AGENT},
            body=msgspec.json.encode({"text": text}),
            timeout=TIMEOUT,
        )
        try:
            return await self._sender.send(request)
        except BaseException as exc:  # a defect must cost one alert, not all later ones
            raise_end(exc)
            error = self._defects.note("alert failed with an internal error", exc)
            return Outcome(error=error, cause=Cause.INTERNAL_ERROR)


@dataclass(slots=True)
class Unsent:
    """A text that was not delivered yet, and how often it was posted."""

    text: str
    post_count: int = 0


class Alarms:
    """Decides which alarms are reported: at once, then at most once an hour, and their end."""

    def __init__(self) -> None:
        self._told_at: dict[tuple[str, str], float] = {}  # including ended alarms
        self._lasting: dict[tuple[str, str], Alarm] = {}  # that were reported and have not ended

    def due_texts(self, found: Sequence[Alarm], now: float) -> list[str]:
        """Return the texts to post, given all current problems."""
        there = {alarm.key: alarm for alarm in found}
        over = [alarm for key, alarm in self._lasting.items() if key not in there]
        for alarm in over:
            del self._lasting[alarm.key]
        _forget(self._told_at, now)
        new = {key: alarm for key, alarm in there.items() if key not in self._told_at}
        self._lasting |= new
        self._told_at |= dict.fromkeys(new, now)
        return [*(alarm.over for alarm in over), *(alarm.text for alarm in new.values())]


class NewGroups:
    """New failure groups, which are reported together once a minute."""

    def __init__(self) -> None:
        self._waiting: dict[str, FailureGroup] = {}
        self._more = 0
        self._told_at: dict[str, float] = {}
        self._next_at = float("-inf")

    def add(self, groups: Iterable[FailureGroup]) -> None:
        """Record groups that were not known before."""
        for group in groups:
            if len(self._waiting) < MOST_GROUPS:
                self._waiting[group.id] = group
            else:
                self._more += 1

    def due_texts(self, now: float) -> list[str]:
        """Return the texts to post, if any are due."""
        _forget(self._told_at, now)
        if not self._waiting or now < self._next_at:
            return []
        # A group that was forgotten with its last task, and is back, is no news.
        new = [group for name, group in self._waiting.items() if name not in self._told_at]
        self._told_at |= dict.fromkeys(self._waiting, now)
        more, self._more, self._waiting = self._more, 0, {}
        if not new:
            return []
        self._next_at = now + GROUPS_EVERY
        if len(new) + more == 1:
            return [f"New failure: {described(new[0])}; GET /v1/failures has an example."]
        lines = shortened([f"- {described(group)}" for group in new], more=more)
        title = f"{len(new) + more} new failures; GET /v1/failures has an example of each:"
        return ["\n".join([title, *lines])]


def described(group: FailureGroup) -> str:
    """Return a failure group in words."""
    status = None if group.status is None else f"status {group.status}"
    what = ", ".join(part for part in (status, group.error[:LONGEST]) if part)
    return f"queue {group.queue}, {group.url_path[:LONGEST]}: {what}"


def inert(text: str) -> str:
    """Return a text without chat markup, since it quotes URLs and answers that may contain some.

    It mentions no user, no link hides its address, and no character changes the order in which the
    others are displayed.
    """
    visible = "".join(
        character
        for character in text
        if character == "\n" or not unicodedata.category(character).startswith("C")
    )
    return _MARKUP.sub(_BREAK, visible.translate(_ESCAPED))


def shortened(lines: Sequence[str], *, more: int = 0) -> list[str]:
    """Return the first lines, and the number of the others."""
    left = len(lines[MOST_NAMED:]) + more
    return [*lines[:MOST_NAMED], *([f"… and {left} more"] if left else [])]


def _forget(told_at: dict[K, float], now: float) -> None:
    """Forget alarms that were reported so long ago that they may be reported again."""
    for key in [key for key, at in told_at.items() if now - at >= AT_MOST_EVERY]:
        del told_at[key]


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f} minutes"
