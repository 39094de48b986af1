from __future__ import annotations

import pytest

from poussetaches.client.errors import Busy, NoAnswer, Unauthorized
from poussetaches.client.event_stream import EventReader
from poussetaches.client.results import Event

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


def test_only_what_may_be_over_soon_is_waited_for() -> None:
    reader = EventReader()

    reader.check_lost(NoAnswer(), connected=True)
    reader.check_lost(Busy(503), connected=True)
    with pytest.raises(NoAnswer):
        reader.check_lost(NoAnswer(), connected=False)
    with pytest.raises(Unauthorized):
        reader.check_lost(Unauthorized(401), connected=True)
