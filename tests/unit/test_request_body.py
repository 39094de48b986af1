"""Bodies that come in pieces, many at once."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.types import Message

from poussetaches.api.problems import Problem
from poussetaches.api.request_body import BufferMemory, read_body


def request_of(*pieces: bytes, ends: bool = True) -> Request:
    """Return a request whose body comes in pieces; its client hangs up when it does not end."""
    left = list(pieces)

    async def receive() -> Message:
        if not left:
            return {"type": "http.disconnect"}
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left) or not ends}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def refusal_of(request: Request, memory: BufferMemory) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        await read_body(request, limit=100, memory=memory)
    return caught.value.status, caught.value.code


async def test_pieces_make_a_body() -> None:
    assert await read_body(request_of(b"a", b"b", b"c"), limit=3) == b"abc"


async def test_long_body_is_refused_while_others_take_the_room() -> None:
    memory = BufferMemory(10)
    memory.take(10)

    refused = await refusal_of(request_of(b"a", b"b", b"c"), memory)
    short = await read_body(request_of(b"short"), limit=100, memory=memory)
    memory.release(10)

    assert refused == (503, "busy")
    assert short == b"short"
    assert await read_body(request_of(b"a", b"b"), limit=100, memory=memory) == b"ab"


async def test_first_piece_takes_room_as_well() -> None:
    """It may be 256 KiB, and its client may never send the second."""
    memory = BufferMemory(10)
    request = request_of(b"a" * 10, ends=False)
    receive = request.receive
    other: list[tuple[int, str]] = []

    async def receiving() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            other.append(await refusal_of(request_of(b"a", b"b"), memory))
        return message

    refused = await refusal_of(Request(request.scope, receiving), memory)

    assert (refused, other) == ((400, "cut-off"), [(503, "busy")])


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (request_of(b"a", b"b" * 100), (413, "too-large")),
        (request_of(b"a", b"b", ends=False), (400, "cut-off")),
    ],
    ids=["too long", "breaks off"],
)
async def test_refused_body_gives_its_room_back(
    request_: Request, problem: tuple[int, str]
) -> None:
    memory = BufferMemory(2)

    assert await refusal_of(request_, memory) == problem
    assert await read_body(request_of(b"a", b"b"), limit=100, memory=memory) == b"ab"
