from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from starlette.types import Message

from poussetaches.api.event_hub import (
    KEEP_ALIVE,
    MAX_KEPT,
    MAX_REPORTS,
    MAX_TASK_EVENTS,
    WRITE_INTERVAL,
    EventHub,
    Reader,
)
from poussetaches.api.event_routes import EventStream
from poussetaches.api.request_limits import RequestLimits
from poussetaches.core.moment import rfc3339
from poussetaches.core.progress_report import Progress
from poussetaches.core.queue import Queue
from poussetaches.core.task import TaskState
from poussetaches.store.base import Change, News, TaskChange
from tests.factories import NOW, make_task, seeded
from tests.fakes import FakeClock, let_run

TWO_WRITES = 2 * WRITE_INTERVAL  # enough for a reader to be written to


class Told(NamedTuple):
    """One block of a stream."""

    id: str | None
    name: str | None
    data: Any


class Listener:
    """A client of the stream, which takes what it is sent as long as it is not stuck."""

    def __init__(self, hub: EventHub, queue: str | None, last_event_id: str | None) -> None:
        self.messages: list[Message] = []
        self.is_stuck = False
        self._unstuck = asyncio.Event()
        self._left = asyncio.Event()
        reader = Reader(hub, queue=queue, last_event_id=last_event_id)
        stream = EventStream(hub, RequestLimits(10), reader=reader)
        self.answering = asyncio.create_task(stream({"method": "GET"}, self._receive, self._send))

    @property
    def text(self) -> str:
        """All that it was sent."""
        return b"".join(message["body"] for message in self.messages[1:]).decode()

    @property
    def told(self) -> list[Told]:
        """The events that it was sent."""
        return [event for event in map(parsed, self.text.split("\n\n")) if event.name]

    @property
    def has_ended(self) -> bool:
        """Return whether the stream was ended correctly."""
        return self.answering.done() and self.messages[-1]["more_body"] is False

    def leave(self) -> None:
        """Hang up."""
        self._left.set()

    async def _receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self.is_stuck:
            await self._unstuck.wait()
        self.messages.append(message)


def parsed(block: str) -> Told:
    fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
    data = fields.get("data")
    return Told(fields.get("id"), fields.get("event"), None if data is None else json.loads(data))


@asynccontextmanager
async def listening(
    hub: EventHub, *, queue: str | None = None, last_event_id: str | None = None
) -> AsyncIterator[Listener]:
    listener = Listener(hub, queue, last_event_id)
    await let_run()
    yield listener
    listener.leave()
    await asyncio.wait({listener.answering})


@pytest.fixture
def hub(clock: FakeClock) -> EventHub:
    return EventHub(now=clock.now, clock=clock, random=seeded())


def push(hub: EventHub, count: int = 1, *, queue: str = "default", first: int = 0) -> None:
    hub.committed(
        News(
            tasks=[
                TaskChange(f"task-{number}", queue, Change.PUSHED, TaskState.WAITING)
                for number in range(first, first + count)
            ]
        )
    )


async def pass_time(clock: FakeClock, seconds: float = TWO_WRITES) -> None:
    await let_run()
    clock.advance(seconds)
    await let_run()


def ids(told: list[Told]) -> list[str]:
    return [event.data["id"] for event in told]


async def test_task_events_say_what_happened_to_which_task(
    hub: EventHub, clock: FakeClock
) -> None:
    async with listening(hub) as listener:
        await pass_time(clock)
        at = rfc3339(clock.now())
        push(hub, queue="mail")
        await pass_time(clock)

        ((_, name, data),) = listener.told
    assert name == "task"
    assert data == {
        "id": "task-0",
        "queue": "mail",
        "change": "pushed",
        "state": "waiting",
        "at": at,
    }


async def test_other_changes_have_events_of_their_own(hub: EventHub, clock: FakeClock) -> None:
    async with listening(hub) as listener:
        await pass_time(clock)
        at = rfc3339(clock.now())
        hub.committed(
            News(
                queues={"mail": Queue(name="mail"), "old": None},
                schedules_changed=True,
                paused=True,
            )
        )
        await pass_time(clock)

        told = [(event.name, event.data) for event in listener.told]
    assert told == [
        ("queue", {"queue": "mail", "change": "changed", "at": at}),
        ("queue", {"queue": "old", "change": "removed", "at": at}),
        ("schedules", {"at": at}),
        ("paused", {"paused": True, "at": at}),
    ]


async def test_reader_without_an_id_hears_what_comes_from_now_on(
    hub: EventHub, clock: FakeClock
) -> None:
    push(hub, first=1)
    async with listening(hub) as listener:
        await pass_time(clock)
        push(hub, first=2)
        await pass_time(clock)

        assert ids(listener.told) == ["task-2"]


async def test_reader_that_comes_back_hears_what_it_missed(
    hub: EventHub, clock: FakeClock
) -> None:
    async with listening(hub) as listener:
        await pass_time(clock)
        push(hub)
        await pass_time(clock)
        last_event_id = listener.told[-1].id
    push(hub, 2, first=1)

    async with listening(hub, last_event_id=last_event_id) as listener:
        await pass_time(clock)

        assert ids(listener.told) == ["task-1", "task-2"]


async def test_reader_can_come_back_before_it_heard_anything(
    hub: EventHub, clock: FakeClock
) -> None:
    async with listening(hub) as listener:
        last_event_id = parsed(listener.text.strip()).id
    push(hub)

    async with listening(hub, last_event_id=last_event_id) as listener:
        await pass_time(clock)

        assert ids(listener.told) == ["task-0"]


@pytest.mark.parametrize("event_id", ["", "x", "00000000-1", "{boot}-99", "{boot}--1", "{boot}-²"])
async def test_reader_with_an_unknown_id_is_told_to_begin_anew(
    hub: EventHub, clock: FakeClock, event_id: str
) -> None:
    push(hub)
    boot = hub.id_of(0).partition("-")[0]

    async with listening(hub, last_event_id=event_id.format(boot=boot)) as listener:
        await pass_time(clock)
        push(hub, first=1)
        await pass_time(clock)

        assert [event.name for event in listener.told] == ["reset", "task"]
        assert listener.told[0].id == hub.id_of(1)


async def test_id_is_unknown_once_what_followed_it_is_no_longer_kept(
    hub: EventHub, clock: FakeClock
) -> None:
    for _ in range(MAX_KEPT // MAX_TASK_EVENTS):
        push(hub, MAX_TASK_EVENTS)
        clock.advance(1)
    assert hub.number_of(hub.id_of(0)) == 0

    push(hub)

    assert hub.number_of(hub.id_of(0)) is None
    assert hub.number_of(hub.id_of(1)) == 1


def test_ids_differ_from_one_start_to_the_next(clock: FakeClock) -> None:
    hubs = [EventHub(now=clock.now, clock=clock, random=seeded(seed)) for seed in (1, 2)]

    assert hubs[0].id_of(1) != hubs[1].id_of(1)


async def test_progress_reports_take_no_room_of_other_events_and_have_a_limit(
    hub: EventHub, clock: FakeClock
) -> None:
    progress = Progress(done=1, at=NOW)
    async with listening(hub) as listener:
        await pass_time(clock)
        for _ in range(MAX_REPORTS + 1):
            hub.progressed(make_task(), progress)
        push(hub, MAX_TASK_EVENTS)
        await pass_time(clock, 2 * WRITE_INTERVAL)

        names = [event.name for event in listener.told]
        assert names == ["progress"] * MAX_REPORTS + ["task"] * MAX_TASK_EVENTS


async def test_task_events_above_a_thousand_a_second_are_counted(
    hub: EventHub, clock: FakeClock
) -> None:
    async with listening(hub) as listener:
        await pass_time(clock)
        push(hub, MAX_TASK_EVENTS + 2)
        push(hub, 3, queue="mail")
        await pass_time(clock)
        assert [event.name for event in listener.told] == ["task"] * MAX_TASK_EVENTS

        await pass_time(clock, 1.0)

        counts = listener.told[MAX_TASK_EVENTS:]
        assert [event.name for event in counts] == ["counts"]
        assert counts[0].data["changes"] == {"default": {"pushed": 2}, "mail": {"pushed": 3}}

        push(hub)
        await pass_time(clock)
        assert listener.told[-1].name == "task"


async def test_reader_of_one_queue_hears_of_it_and_of_the_server(
    hub: EventHub, clock: FakeClock
) -> None:
    async with listening(hub, queue="mail") as listener:
        await pass_time(clock)
        push(hub, MAX_TASK_EVENTS)
        push(hub, queue="mail")
        push(hub)
        hub.committed(News(queues={"mail": Queue(name="mail"), "other": None}, paused=False))
        await pass_time(clock, 1.0)
        push(hub, queue="mail")
        await pass_time(clock)

        told = [(event.name, event.data) for event in listener.told]
    assert [name for name, _ in told] == ["queue", "paused", "counts", "task"]
    assert told[2][1]["changes"] == {"mail": {"pushed": 1}}


async def test_silence_is_broken_by_a_comment_that_moves_the_id_on(
    hub: EventHub, clock: FakeClock
) -> None:
    async with listening(hub, queue="mail") as listener:
        await pass_time(clock)
        push(hub, queue="other")
        await pass_time(clock, 10.0)
        before = listener.text

        await pass_time(clock, KEEP_ALIVE - 10.0)

        assert listener.text[len(before) :] == f": all is well\nid: {hub.id_of(1)}\n\n"


async def test_reader_that_does_not_keep_up_is_dropped(hub: EventHub, clock: FakeClock) -> None:
    async with listening(hub) as slow, listening(hub) as quick:
        await pass_time(clock)
        slow.is_stuck = True
        push(hub)
        await pass_time(clock, 1.0)
        for _ in range(MAX_KEPT // MAX_TASK_EVENTS):
            push(hub, MAX_TASK_EVENTS)
            await pass_time(clock, 1.0)
        assert not slow.answering.done()

        slow.is_stuck = False
        push(hub)
        await pass_time(clock)

        assert slow.has_ended
        assert len(slow.told) == 0
        assert len(quick.told) == MAX_KEPT + 2


async def test_stream_ends_when_the_client_leaves(hub: EventHub) -> None:
    async with listening(hub) as listener:
        pass

    assert listener.answering.done()
    push(hub)
    assert listener.told == []


async def test_closed_hub_tells_what_there_is_and_ends_the_streams(
    hub: EventHub, clock: FakeClock
) -> None:
    async with listening(hub) as listener:
        await pass_time(clock)
        push(hub)
        closing = asyncio.create_task(hub.close())
        await pass_time(clock)
        await closing
        await let_run()

        assert ids(listener.told) == ["task-0"]
        assert listener.has_ended
