from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import pytest

from poussetaches.client import Client
from poussetaches.client.call import Call
from poussetaches.client.errors import NoAnswer, Unauthorized
from poussetaches.client.event_stream import EventReader
from poussetaches.client.results import Event
from poussetaches.client.server_answer import Answer

STREAM = (
    b"id: a-1\n\n"
    b'id: a-2\nevent: paused\ndata: {"paused": true}\n\n'
    b": all is well\nid: a-2\n\n"
    b'id: a-3\nevent: task\ndata: {"id": "\xc3\xa9"}\n\n'
)
EVENTS = [Event("a-2", "paused", {"paused": True}), Event("a-3", "task", {"id": "é"})]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_read_however_the_stream_is_cut(size: int) -> None:
    reader = EventReader()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]

    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS
    assert reader.last_id == "a-3"


def test_half_an_event_is_forgotten_when_the_connection_is_lost() -> None:
    reader = EventReader()
    assert list(reader.feed(b"id: a-1\n\nid: a-2\ndata: {")) == []

    assert reader.next_pause() == 0.5
    assert reader.next_pause() == 1.0
    assert reader.last_id == "a-1"
    assert list(reader.feed(STREAM)) == EVENTS
    assert reader.next_pause() == 0.5


class Connections:
    """A transport with a script of streams: each fails, or has an answer's head and its body."""

    def __init__(self, *script: Answer | NoAnswer) -> None:
        self.calls: list[Call] = []
        self._script = iter(script)

    def send(self, call: Call, *, timeout: float) -> Answer:
        raise AssertionError("events need only a stream")

    @contextmanager
    def stream(self, call: Call, *, silence: float) -> Iterator[Whole]:
        self.calls.append(call)
        reply = next(self._script)
        if isinstance(reply, NoAnswer):
            raise reply
        yield Whole(reply)

    def close(self) -> None:
        """Do nothing."""


class Whole:
    """A stream that arrives in one piece."""

    def __init__(self, head: Answer) -> None:
        self.head = head

    def pieces(self) -> Iterator[bytes]:
        yield self.head.body


OPEN = Answer(200, {"content-type": "text/event-stream"}, STREAM)


def client_of(connections: Connections) -> Client:
    return Client(transport=connections, sleep=lambda seconds: None)


def test_events_continue_after_a_lost_connection() -> None:
    busy = Answer(503, {}, b'{"type": "urn:poussetaches:problem:busy"}')
    connections = Connections(OPEN, NoAnswer(), busy, OPEN)

    found = list(islice(client_of(connections).events(), 4))

    assert found == EVENTS * 2
    last_ids = [dict(call.headers).get("Last-Event-ID") for call in connections.calls]
    assert last_ids == [None, "a-3", "a-3", "a-3"]


def test_events_end_at_an_error_that_stays() -> None:
    refused = Answer(401, {}, b'{"type": "urn:poussetaches:problem:unauthorized"}')
    events = client_of(Connections(OPEN, refused)).events()
    assert list(islice(events, 2)) == EVENTS

    with pytest.raises(Unauthorized):
        next(events)


def test_events_end_if_the_first_connection_fails() -> None:
    connections = Connections(NoAnswer())

    with pytest.raises(NoAnswer):
        next(client_of(connections).events())
