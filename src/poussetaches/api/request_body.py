"""Request bodies: reading them up to a limit, and decoding JSON."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from poussetaches.api.json_errors import json_problem
from poussetaches.api.problems import Problem, invalid, too_large, unavailable
from poussetaches.core.msgspec_errors import field_and_reason

V = TypeVar("V")

# The rest of a body over its limit is read and discarded within these bounds, so that the client
# can read the response.
MAX_DISCARDED = 64 * 1024 * 1024  # bytes
MAX_DISCARD_TIME = 10.0  # seconds
MAX_BUFFERED = 128 * 1024 * 1024  # bytes of all bodies that arrive in several pieces

_PIECE = 64 * 1024  # bytes; a decoded string takes up to four times as much


class BufferMemory:
    """The memory for bodies that arrive in several pieces, shared by all requests."""

    def __init__(self, size: int) -> None:
        self._free = size  # bytes

    def take(self, size: int) -> bool:
        """Reserve memory; return False if none was left."""
        if size and self._free <= 0:
            return False
        self._free -= size
        return True

    def release(self, size: int) -> None:
        """Release reserved memory."""
        self._free += size


_MEMORY = BufferMemory(MAX_BUFFERED)  # global, as the memory of the process is


async def read_body(
    request: Request,
    *,
    limit: int,
    setting: str | None = "max_request",
    memory: BufferMemory = _MEMORY,
) -> bytes:
    """Return the body of a request; ``setting`` is the name of the limit.

    Raises:
        Problem: 413, it is longer than ``limit`` bytes; 503, too many long bodies are being read.
    """
    message = await request.receive()  # Request.stream() takes as long as a whole push
    if message["type"] == "http.disconnect":
        raise cut_off()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        return await _read_pieces(request, body, limit=limit, setting=setting, memory=memory)
    check_length(body, limit=limit, setting=setting)
    return body


def check_length(body: bytes, *, limit: int, setting: str | None = "max_request") -> None:
    """Check the length of a whole body.

    Raises:
        Problem: 413, it is longer than ``limit`` bytes.
    """
    if len(body) > limit:
        raise _longer_than(limit, setting)


async def _read_pieces(
    request: Request, first: bytes, *, limit: int, setting: str | None, memory: BufferMemory
) -> bytes:
    pieces: list[bytes] = []
    length = taken = 0
    piece: bytes | None = first
    refusal: Problem | None = None
    try:
        async with contextlib.aclosing(request.stream()) as stream:
            while piece is not None:
                length += len(piece)
                if length > limit:
                    refusal = _longer_than(limit, setting)
                elif memory.take(len(piece)):
                    taken += len(piece)
                    pieces.append(piece)
                else:
                    refusal = unavailable(
                        "busy", "too many long requests are being read; retry later"
                    )
                if refusal is not None:
                    pieces.clear()
                    memory.release(taken)
                    taken = 0
                    await discard_rest(stream, length)
                    raise refusal
                piece = await anext(stream, None)
    except ClientDisconnect:
        raise cut_off() from None
    finally:
        memory.release(taken)
    return b"".join(pieces)


def _longer_than(limit: int, setting: str | None) -> Problem:
    advice = "" if setting is None else f" (setting {setting})"
    return too_large(f"the request is longer than {limit} bytes{advice}")


async def discard_rest(stream: AsyncIterator[bytes], length: int) -> None:
    """Read the rest of a body within bounds, after ``length`` bytes were read."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MAX_DISCARD_TIME):
            async for chunk in stream:
                length += len(chunk)
                if length > MAX_DISCARDED:
                    return


async def disconnected(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


def cut_off() -> Problem:
    """Return the problem of a request whose client disconnected."""
    return Problem(
        HTTPStatus.BAD_REQUEST, "cut-off", "the request ended before its body was complete"
    )


def decode(
    decoder: msgspec.json.Decoder[V],
    body: bytes | bytearray,
    *,
    code: str = "invalid-task",
    offset: int = 0,
) -> V:
    """Return a decoded JSON body; ``code`` is the code of the problem if it is invalid.

    ``offset`` is the position in the whole body at which ``body`` begins.

    Raises:
        Problem: 400, it is not JSON; 422, it does not match the type.
    """
    try:
        check_encoding(body)
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise invalid(code, *field_and_reason(str(exc), decoder.type, body)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise json_problem(body, exc, offset=offset) from None


def check_encoding(body: bytes | bytearray) -> None:
    """Check that a body is UTF-8, which msgspec does not check in values that it skips.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), _PIECE):
        pending, _ = decoder.getstate()
        try:
            decoder.decode(body[start : start + _PIECE], final=start + _PIECE >= len(body))
        except UnicodeDecodeError as exc:
            exc.start += start - len(pending)
            raise
