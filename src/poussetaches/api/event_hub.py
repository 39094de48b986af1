"""``EventHub``: distributes changes to the readers of server-sent events.

The hub keeps one list of the latest events, and a reader is a position in it. Many readers
therefore cost little, and a reader that falls behind the list is dropped.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from random import Random
from typing import NamedTuple

import msgspec
from starlette.types import Send

from poussetaches.api.views import progress_view, shown_time
from poussetaches.core.moment import Moment
from poussetaches.core.progress_report import Progress
from poussetaches.core.task import Task
from poussetaches.core.task_fields import ShownTime
from poussetaches.engine.clock import Bell, Clock
from poussetaches.store.base import Change, News, TaskChange

MAX_KEPT = 10_000  # events, for readers that reconnect or are slow
MAX_TASK_EVENTS = 1000  # per second; the rest of the second is counted instead
MAX_REPORTS = 500  # progress reports per second; the rest of the second is dropped
MAX_EVENTS_PER_WRITE = 1000  # about 200 KiB
WRITE_INTERVAL = 0.1  # seconds between writes to a reader, so that commits are sent together
KEEP_ALIVE = 15.0  # seconds without an event after which a comment is sent
MAX_CLOSE_TIME = 1.0  # seconds for a stream to end in order

Changes = Mapping[str, Mapping[Change, int]]  # counts, by queue


class Counts(msgspec.Struct, frozen=True):
    """The task events of a second that were not sent one by one."""

    changes: Changes
    at: ShownTime


class Event(NamedTuple):
    """A change, encoded. Without a ``queue`` it is sent to all readers."""

    number: int
    text: bytes
    queue: str | None = None
    counts: Counts | None = None


class EventHub:
    """Turns commits into events and keeps the latest of them.

    ``clock`` measures how fast readers are, so it is the real one in test mode, too.
    """

    def __init__(self, *, now: Callable[[], Moment], clock: Clock, random: Random) -> None:
        self.clock = clock
        self.closed = False
        self.last = 0  # the number of the latest event; the first one is 1
        self._now = now
        self._boot = f"{random.getrandbits(32):08x}"
        self._events: deque[Event] = deque(maxlen=MAX_KEPT)
        self._merger = Merger()
        self._readers: dict[Reader, asyncio.Task[None]] = {}

    def committed(self, news: News) -> None:
        """Add the events of a commit."""
        self.merge()
        at = shown_time(self._now())
        for change in self._merger.admit(news.tasks):
            data = {
                "id": change.task_id,
                "queue": change.queue,
                "change": change.change,
                "state": change.state,
                "at": at,
            }
            self._add("task", data, queue=change.queue)
        for name, queue in news.queues.items():
            what = "removed" if queue is None else "changed"
            self._add("queue", {"queue": name, "change": what, "at": at}, queue=name)
        if news.schedules_changed:
            self._add("schedules", {"at": at})
        if news.paused is not None:
            self._add("paused", {"paused": news.paused, "at": at})
        self._wake()

    def progressed(self, task: Task, progress: Progress) -> None:
        """Add a progress report of a running attempt, unless there were too many this second."""
        self.merge()
        if self._merger.admits_report():
            data = {
                "id": task.id,
                "queue": task.queue,
                "round": task.round,
                "attempt": task.attempt_count + 1,
                **msgspec.structs.asdict(progress_view(progress)),
            }
            self._add("progress", data, queue=task.queue)
            self._wake()

    def merge(self) -> None:
        """Add the counts of the last second, once it is over."""
        changes = self._merger.next_second(self.clock.monotonic())
        if changes:
            counts = Counts(changes, shown_time(self._now()))
            self._add("counts", counts, counts=counts)

    @property
    def merges_at(self) -> float | None:
        """The monotonic time at which ``merge`` has something to add; None if it has nothing."""
        return self._merger.ends_at

    def id_of(self, number: int) -> str:
        """Return the id of an event."""
        return f"{self._boot}-{number}"

    def number_of(self, event_id: str) -> int | None:
        """Return the number of an event, or None unless all later events are still kept."""
        boot, _, digits = event_id.partition("-")
        if boot != self._boot or not (digits.isascii() and digits.isdigit()):
            return None
        number = int(digits[:20])
        return number if self.last - len(self._events) <= number <= self.last else None

    def after(self, number: int) -> list[Event]:
        """Return the events after an event, oldest first."""
        return list(islice(reversed(self._events), self.last - number))[::-1]

    def add_reader(self, reader: Reader, writing: asyncio.Task[None]) -> None:
        """Wake a reader at each commit; cancel its writing if it falls behind."""
        self._readers[reader] = writing

    def remove_reader(self, reader: Reader) -> None:
        """Stop waking a reader."""
        del self._readers[reader]

    async def close(self) -> None:
        """Send the readers the remaining events, and end all streams."""
        self.closed = True
        for reader in self._readers:
            reader.bell.ring()
        if self._readers:
            _, stuck = await asyncio.wait(self._readers.values(), timeout=MAX_CLOSE_TIME)
            for writing in stuck:
                writing.cancel()

    def _wake(self) -> None:
        for reader, writing in self._readers.items():
            reader.bell.ring()
            if self.last - reader.number > MAX_KEPT:
                writing.cancel()

    def _add(
        self,
        name: str,
        data: object,
        *,
        queue: str | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.last += 1
        text = encode_event(self.id_of(self.last), name, data)
        self._events.append(Event(self.last, text, queue, counts))


class Merger:
    """Counts the task events of a second that are too many to be sent one by one."""

    def __init__(self) -> None:
        self._second_ends_at = float("-inf")
        self._room = MAX_TASK_EVENTS
        self._reports = 0
        self._changes: Counter[tuple[str, Change]] = Counter()

    @property
    def ends_at(self) -> float | None:
        """The monotonic time at which the counts are due; None if nothing was counted."""
        return self._second_ends_at if self._changes else None

    def next_second(self, now: float) -> Changes:
        """Begin the next second if the last one is over; return the counts of the last one."""
        if now < self._second_ends_at:
            return {}
        self._second_ends_at, self._room, self._reports = now + 1.0, MAX_TASK_EVENTS, 0
        changes: dict[str, dict[Change, int]] = {}
        for (queue, change), count in self._changes.items():
            changes.setdefault(queue, {})[change] = count
        self._changes.clear()
        return changes

    def admits_report(self) -> bool:
        """Count a progress report; return whether it is sent."""
        self._reports += 1
        return self._reports <= MAX_REPORTS

    def admit(self, changes: Sequence[TaskChange]) -> Sequence[TaskChange]:
        """Return the changes that are sent one by one, and count the others."""
        admitted = changes[: self._room]
        self._room -= len(admitted)
        self._changes.update(map(attrgetter("queue", "change"), changes[len(admitted) :]))
        return admitted


class Reader:
    """A client that reads the events of all queues, or of one; ``number`` is its last event."""

    def __init__(self, hub: EventHub, *, queue: str | None, last_event_id: str | None) -> None:
        self.bell = Bell()
        number = None if last_event_id is None else hub.number_of(last_event_id)
        self.number = hub.last if number is None else number
        self._hub = hub
        self._queue = queue
        self._has_missed = last_event_id is not None and number is None

    async def write(self, send: Send) -> None:
        """Send events until the hub is closed."""
        clock = self._hub.clock
        text, sent_at = self._greeting(), clock.monotonic()
        while True:
            if text:
                await send({"type": "http.response.body", "body": text, "more_body": True})
                sent_at = clock.monotonic()
                await clock.sleep(WRITE_INTERVAL)
            elif self._hub.closed:
                return
            else:
                await clock.wait(self.bell, until=self._wakes_at(sent_at))
            self.bell.clear()
            text = self._read() or self._keep_alive(sent_at)

    def _greeting(self) -> bytes:
        """Return the position in the stream, as a ``reset`` if the reader missed events."""
        if self._has_missed:
            return encode_event(self._id, "reset", {})
        return self._id_alone()

    def _wakes_at(self, sent_at: float) -> float:
        merges_at = self._hub.merges_at
        keep_alive_at = sent_at + KEEP_ALIVE
        return keep_alive_at if merges_at is None else min(merges_at, keep_alive_at)

    def _keep_alive(self, sent_at: float) -> bytes:
        silence = self._hub.clock.monotonic() - sent_at
        return b": all is well\n" + self._id_alone() if silence >= KEEP_ALIVE else b""

    def _id_alone(self) -> bytes:
        """Return an id without data: browsers store it, but dispatch no event."""
        return b"id: %s\n\n" % self._id.encode()

    @property
    def _id(self) -> str:
        return self._hub.id_of(self.number)

    def _read(self) -> bytes:
        """Return some of the new events; empty if none concerns the reader."""
        self._hub.merge()
        events = self._hub.after(self.number)[:MAX_EVENTS_PER_WRITE]
        if events:
            self.number = events[-1].number
        if self._queue is None:
            return b"".join([event.text for event in events])
        return b"".join([self._of_queue(event, self._queue) for event in events])

    def _of_queue(self, event: Event, queue: str) -> bytes:
        """Return the part of an event that concerns one queue."""
        if event.counts is None:
            return event.text if event.queue in (None, queue) else b""
        if queue not in event.counts.changes:
            return b""
        counts = Counts({queue: event.counts.changes[queue]}, event.counts.at)
        return encode_event(self._hub.id_of(event.number), "counts", counts)


def encode_event(event_id: str, name: str, data: object) -> bytes:
    """Return a server-sent event."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        event_id.encode(),
        name.encode(),
        msgspec.json.encode(data),
    )
