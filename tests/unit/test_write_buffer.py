"""Answers leave in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from poussetaches.server.write_buffer import LARGE, BufferingTransport
from tests.fakes import let_run


class Wire(asyncio.Transport):
    """A transport that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.ends: list[str] = []

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.sent.append(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.ends.append("closed")

    def abort(self) -> None:
        self.ends.append("aborted")


async def test_what_is_written_in_one_turn_is_sent_in_one_piece() -> None:
    wire = Wire()
    transport = BufferingTransport(wire, asyncio.get_running_loop())
    transport.write(b"head ")
    transport.write(b"body")
    assert wire.sent == []
    await let_run(1)
    assert wire.sent == [b"head body"]


async def test_each_turn_is_sent_when_it_is_over() -> None:
    wire = Wire()
    transport = BufferingTransport(wire, asyncio.get_running_loop())
    for piece in (b"one", b"two"):
        transport.write(piece)
        await let_run(1)
    await let_run(1)
    assert wire.sent == [b"one", b"two"]


async def test_what_is_large_is_sent_at_once_after_what_came_before() -> None:
    wire = Wire()
    transport = BufferingTransport(wire, asyncio.get_running_loop())
    transport.write(b"head")
    transport.write(b"x" * LARGE)
    assert wire.sent == [b"head" + b"x" * LARGE]


async def test_many_small_pieces_are_sent_before_they_are_much() -> None:
    """A page of an answer is written in one turn: who writes on and on must be told to stop."""
    wire = Wire()
    transport = BufferingTransport(wire, asyncio.get_running_loop())
    for _ in range(3):
        transport.write(b"x" * (LARGE // 2))
    assert [len(sent) for sent in wire.sent] == [LARGE]
    assert transport.get_write_buffer_size() == LARGE // 2


async def test_hanging_up_sends_what_is_held_first() -> None:
    wire = Wire()
    transport = BufferingTransport(wire, asyncio.get_running_loop())
    transport.write(b"last words")
    transport.close()
    assert (wire.sent, wire.ends) == ([b"last words"], ["closed"])


async def test_breaking_off_sends_nothing_more() -> None:
    wire = Wire()
    transport = BufferingTransport(wire, asyncio.get_running_loop())
    transport.write(b"never mind")
    transport.abort()
    await let_run(1)
    assert (wire.sent, wire.ends) == ([], ["aborted"])
