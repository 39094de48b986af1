"""Events: what changes, told as server-sent events to those who listen.

There is one list of the latest events, and a reader is a place in it: many readers cost little,
and one that does not keep up falls off the list's end and is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from operator import attrgetter
from random import Random
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from poussetaches.api.endpoint import Endpoint, read_query
from poussetaches.api.request_limits import RequestLimits
from poussetaches.api.views import progress_view, shown
from poussetaches.core.moment import Moment
from poussetaches.core.progress import Progress
from poussetaches.core.queue import Name
from poussetaches.core.task import Task
from poussetaches.core.task_fields import ShownTime
from poussetaches.engine.clock import Bell, Clock
from poussetaches.store.base import Change, News, TaskChange

KEPT = 10_000  # events, for readers that come back or are slow
MOST_A_SECOND = 1000  # task events; the others of the second are merged
MOST_REPORTS = 500  # progress reports a second; the others of the second are not told
MOST_A_WRITE = 1000  # events: some 200 KiB
PACE = 0.1  # seconds between writes to a reader: it is told of many commits at once
KEEP_ALIVE = 15.0  # seconds of silence, after which a reader is told that all is well
GOODBYE = 1.0  # seconds for a stream to end as it should

TAG = "Operations"
EVENT_STREAM = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the latter is for nginx

Changes = Mapping[str, Mapping[Change, int]]  # how many of each, by queue

log = logging.getLogger(__name__)


class Counts(msgspec.Struct, frozen=True):
    """The task events of a second that were not told one by one."""

    changes: Changes
    at: ShownTime


class Event(NamedTuple):
    """Something that happened, as it is sent. Without ``queue`` it is everybody's affair."""

    number: int
    text: bytes
    queue: str | None = None
    counts: Counts | None = None


class EventHub:
    """Takes note of commits, and keeps the latest events for whoever reads them.

    ``clock`` measures what readers can take, so it is the machine's own in test mode, too.
    """

    def __init__(self, *, now: Callable[[], Moment], clock: Clock, random: Random) -> None:
        self.clock = clock
        self.closed = False
        self.last = 0  # the number of the latest event; the first one is 1
        self._now = now
        self._boot = f"{random.getrandbits(32):08x}"
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._merger = Merger()
        self._readers: dict[Reader, asyncio.Task[None]] = {}

    # What the store tells

    def committed(self, news: News) -> None:
        """Take note of what a commit changed."""
        self.merge()
        at = shown(self._now())
        for change in self._merger.left_of(news.tasks):
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
        """Tell how far a running attempt has come, unless this second has had enough reports."""
        self.merge()
        if self._merger.takes_report():
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
        """Tell what was merged, once its second is over."""
        changes = self._merger.turn(self.clock.monotonic())
        if changes:
            counts = Counts(changes, shown(self._now()))
            self._add("counts", counts, counts=counts)

    @property
    def merges_at(self) -> float | None:
        """When, monotonic, there is something to ``merge``; None for not yet."""
        return self._merger.ends_at

    # What readers ask

    def id_of(self, number: int) -> str:
        """Return the id of an event."""
        return f"{self._boot}-{number}"

    def number_of(self, event_id: str) -> int | None:
        """Return the number of an event; None unless all that followed it are still kept."""
        boot, _, digits = event_id.partition("-")
        if boot != self._boot or not (digits.isascii() and digits.isdigit()):
            return None
        number = int(digits[:20])
        return number if self.last - len(self._events) <= number <= self.last else None

    def after(self, number: int) -> list[Event]:
        """Return the events that followed one, oldest first."""
        return list(islice(reversed(self._events), self.last - number))[::-1]

    def add_reader(self, reader: Reader, writing: asyncio.Task[None]) -> None:
        """Wake a reader for each commit; cancel its writing when it does not keep up."""
        self._readers[reader] = writing

    def remove_reader(self, reader: Reader) -> None:
        """Have nothing more to do with a reader."""
        del self._readers[reader]

    async def close(self) -> None:
        """Let the readers have what there is, and end all streams."""
        self.closed = True
        for reader in self._readers:
            reader.bell.ring()
        if self._readers:
            _, stuck = await asyncio.wait(self._readers.values(), timeout=GOODBYE)
            for writing in stuck:
                writing.cancel()

    def _wake(self) -> None:
        for reader, writing in self._readers.items():
            reader.bell.ring()
            if self.last - reader.number > KEPT:
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
        text = written(self.id_of(self.last), name, data)
        self._events.append(Event(self.last, text, queue, counts))


class Merger:
    """Counts the task events of a second that are too many to be told one by one."""

    def __init__(self) -> None:
        self._second_ends_at = float("-inf")
        self._room = MOST_A_SECOND
        self._reports = 0
        self._changes: Counter[tuple[str, Change]] = Counter()

    @property
    def ends_at(self) -> float | None:
        """When what was counted is to be told; None when nothing was."""
        return self._second_ends_at if self._changes else None

    def turn(self, now: float) -> Changes:
        """Begin the next second when the last is over; return what was counted in it."""
        if now < self._second_ends_at:
            return {}
        self._second_ends_at, self._room, self._reports = now + 1.0, MOST_A_SECOND, 0
        changes: dict[str, dict[Change, int]] = {}
        for (queue, change), count in self._changes.items():
            changes.setdefault(queue, {})[change] = count
        self._changes.clear()
        return changes

    def takes_report(self) -> bool:
        """Count a progress report; return whether it is told: those beyond a number are not."""
        self._reports += 1
        return self._reports <= MOST_REPORTS

    def left_of(self, changes: Sequence[TaskChange]) -> Sequence[TaskChange]:
        """Return the changes that are told one by one; the others are merged and counted."""
        left = changes[: self._room]
        self._room -= len(left)
        self._changes.update(map(attrgetter("queue", "change"), changes[len(left) :]))
        return left


class Reader:
    """Somebody who reads the events of all queues, or of one; ``number`` is the last one read."""

    def __init__(self, hub: EventHub, *, queue: str | None, last_event_id: str | None) -> None:
        self.bell = Bell()
        known = None if last_event_id is None else hub.number_of(last_event_id)
        self.number = hub.last if known is None else known
        self._hub = hub
        self._queue = queue
        self._has_missed = last_event_id is not None and known is None

    async def write(self, send: Send) -> None:
        """Send what happens, until the hub is closed."""
        clock = self._hub.clock
        text, spoke_at = self._greeting(), clock.monotonic()
        while True:
            if text:
                await send({"type": "http.response.body", "body": text, "more_body": True})
                spoke_at = clock.monotonic()
                await clock.sleep(PACE)
            elif self._hub.closed:
                return
            else:
                await clock.wait(self.bell, until=self._wakes_at(spoke_at))
            self.bell.clear()
            text = self._read() or self._keep_alive(spoke_at)

    def _greeting(self) -> bytes:
        """Return what comes first: where the stream begins, and whether something was missed."""
        if self._has_missed:
            return written(self._id, "reset", {})
        return self._id_alone()

    def _wakes_at(self, spoke_at: float) -> float:
        merges_at = self._hub.merges_at
        keep_alive_at = spoke_at + KEEP_ALIVE
        return keep_alive_at if merges_at is None else min(merges_at, keep_alive_at)

    def _keep_alive(self, spoke_at: float) -> bytes:
        silence = self._hub.clock.monotonic() - spoke_at
        return b": all is well\n" + self._id_alone() if silence >= KEEP_ALIVE else b""

    def _id_alone(self) -> bytes:
        """Return an id without data: no event to a browser, and yet it is sent back to us."""
        return b"id: %s\n\n" % self._id.encode()

    @property
    def _id(self) -> str:
        return self._hub.id_of(self.number)

    def _read(self) -> bytes:
        """Return some of what came since; empty when there is nothing of interest."""
        self._hub.merge()
        events = self._hub.after(self.number)[:MOST_A_WRITE]
        if events:
            self.number = events[-1].number
        if self._queue is None:
            return b"".join([event.text for event in events])
        return b"".join([self._of_queue(event, self._queue) for event in events])

    def _of_queue(self, event: Event, queue: str) -> bytes:
        """Return what an event says of one queue."""
        if event.counts is None:
            return event.text if event.queue in (None, queue) else b""
        if queue not in event.counts.changes:
            return b""
        counts = Counts({queue: event.counts.changes[queue]}, event.counts.at)
        return written(self._hub.id_of(event.number), "counts", counts)


class EventStream(Response):
    """Answers with events until the reader leaves or is dropped, or the hub is closed."""

    media_type = EVENT_STREAM

    def __init__(
        self,
        hub: EventHub,
        request_limits: RequestLimits,
        *,
        queue: str | None,
        last_event_id: str | None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._hub = hub
        self._request_limits = request_limits
        self._queue = queue
        self._last_event_id = last_event_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events.

        Raises:
            Problem: 503, there are too many readers.
        """
        with self._request_limits.parked(scope):
            await self._stream(receive, send)

    async def _stream(self, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        reader = Reader(self._hub, queue=self._queue, last_event_id=self._last_event_id)
        writing = asyncio.create_task(reader.write(send))
        leaving = asyncio.create_task(_left(receive))
        self._hub.add_reader(reader, writing)
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            was_dropped = writing.cancelled()
        finally:
            self._hub.remove_reader(reader)
            for task in (writing, leaving):
                task.cancel()
            results = await asyncio.gather(writing, leaving, return_exceptions=True)
        if was_dropped:
            log.info("event reader dropped", extra={"behind": self._hub.last - reader.number})
        for result in results:
            if isinstance(result, Exception):
                raise result
        # The server aborts a connection whose client never reads (server/connection_limits.py).
        patience = GOODBYE if self._hub.closed else None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventRoutes:
    """Serves the events."""

    def __init__(self, hub: EventHub, request_limits: RequestLimits) -> None:
        self._hub = hub
        self._request_limits = request_limits

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints."""
        return [
            Endpoint(
                method="GET",
                path="/v1/events",
                handler=self.events,
                summary="Tell what changes, as server-sent events",
                tag=TAG,
                query=EventQuery,
                answers={200: str},
                answer_media_type=EVENT_STREAM,
            )
        ]

    async def events(self, request: Request) -> Response:
        """Tell what changes from now on, or from the event that the client has seen last."""
        query = read_query(request, EventQuery)
        if request.method == "HEAD":
            return Response(media_type=EVENT_STREAM, headers=HEADERS)
        last_event_id = request.headers.get("last-event-id") or None
        return EventStream(
            self._hub, self._request_limits, queue=query.queue, last_event_id=last_event_id
        )


class EventQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of what is to be told: of one queue, or of all."""

    queue: Name | None = None


def written(event_id: str, name: str, data: object) -> bytes:
    """Return an event as it is sent."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        event_id.encode(),
        name.encode(),
        msgspec.json.encode(data),
    )


async def _left(receive: Receive) -> None:
    """Wait until the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
