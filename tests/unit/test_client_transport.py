"""The writes of one event loop iteration leave in one piece."""

from __future__ import annotations

import asyncio

import pytest

from poussetaches.server.client_transport import LARGE, ClientTransport
from tests.fakes import let_run


class Wire(asyncio.Transport):
    """A transport that records its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.is_lost = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""

    def abort(self) -> None:
        self.is_lost = True

    def is_closing(self) -> bool:
        return self.is_lost


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def transport(wire: Wire) -> ClientTransport:
    return ClientTransport(wire, high_water=100)


async def test_writes_of_one_iteration_are_sent_in_one_piece(
    wire: Wire, transport: ClientTransport
) -> None:
    transport.write(b"head ")
    transport.write(b"body")
    assert (wire.sent, transport.unsent) == ([], 9)

    await let_run(1)

    assert (wire.sent, transport.unsent) == ([b"head body"], 0)


async def test_each_iteration_is_sent_at_its_end(wire: Wire, transport: ClientTransport) -> None:
    for piece in (b"one", b"two"):
        transport.write(piece)
        await let_run(1)

    assert wire.sent == [b"one", b"two"]


async def test_large_write_is_sent_at_once_with_earlier_ones(
    wire: Wire, transport: ClientTransport
) -> None:
    transport.write(b"head")
    transport.write(b"x" * LARGE)

    assert wire.sent == [b"head" + b"x" * LARGE]


async def test_many_small_writes_are_sent_before_they_are_much(
    wire: Wire, transport: ClientTransport
) -> None:
    """A page of a response is written in one iteration: its writer needs backpressure."""
    for _ in range(3):
        transport.write(b"x" * (LARGE // 2))

    assert [len(sent) for sent in wire.sent] == [LARGE]
    assert transport.unsent == LARGE // 2


async def test_immediate_write_is_sent_after_earlier_ones(
    wire: Wire, transport: ClientTransport
) -> None:
    transport.send(b"alone")
    transport.write(b"first ")
    transport.send(b"second")
    await let_run(1)

    assert wire.sent == [b"alone", b"first second"]


async def test_flush_sends_the_buffer_once(wire: Wire, transport: ClientTransport) -> None:
    transport.write(b"last words")
    transport.flush()
    await let_run(1)

    assert wire.sent == [b"last words"]


async def test_buffer_of_an_aborted_connection_is_discarded(
    wire: Wire, transport: ClientTransport
) -> None:
    transport.write(b"never mind")
    transport.abort()
    await let_run(1)

    assert (wire.sent, transport.unsent) == ([], 0)


async def test_nothing_is_sent_on_a_closing_connection(
    wire: Wire, transport: ClientTransport
) -> None:
    transport.write(b"too late")
    wire.is_lost = True
    await let_run(1)
    transport.send(b"much too late")

    assert wire.sent == []
