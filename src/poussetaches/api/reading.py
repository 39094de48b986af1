"""Read requests: bodies up to their limit, and JSON into the structs that validate it."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from poussetaches.api.bad_json import bad_json
from poussetaches.api.problems import FieldError, Problem, unavailable
from poussetaches.core.refusal import field_and_reason

V = TypeVar("V")

# The rest of a body that is over its limit is read and discarded up to here, so that the client
# can read the response.
MOST_THROWN_AWAY = 64 * 1024 * 1024  # bytes
LONGEST_THROWING = 10.0  # seconds
MOST_READ = 128 * 1024 * 1024  # bytes of all bodies together that come in several pieces

_PIECE = 64 * 1024  # bytes; text takes up to four times as much


class Room:
    """Memory for bodies that come in several pieces, of all requests together."""

    def __init__(self, size: int) -> None:
        self._free = size  # bytes

    def take(self, size: int) -> bool:
        """Reserve memory; return whether there was any left."""
        if size and self._free <= 0:
            return False
        self._free -= size
        return True

    def give_back(self, size: int) -> None:
        """Release reserved memory."""
        self._free += size


_ROOM = Room(MOST_READ)  # memory belongs to the process, and so does this


async def read_body(request: Request, *, limit: int, room: Room = _ROOM) -> bytes:
    """Return the body of a request.

    Raises:
        Problem: 413, it is longer than ``limit`` bytes; 503, too many long ones are being read.
    """
    message = await request.receive()  # not Request.stream(), which takes as long as a push
    if message["type"] == "http.disconnect":
        raise cut_off()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        return await _read_on(request, body, limit=limit, room=room)
    if len(body) > limit:
        raise _longer_than(limit)
    return body


async def _read_on(request: Request, first: bytes, *, limit: int, room: Room) -> bytes:
    """Return a body that comes in several pieces."""
    pieces: list[bytes] = []
    length = taken = 0
    piece: bytes | None = first
    refusal: Problem | None = None
    try:
        async with contextlib.aclosing(request.stream()) as stream:
            while piece is not None:
                length += len(piece)
                if length > limit:
                    refusal = _longer_than(limit)
                elif room.take(len(piece)):
                    taken += len(piece)
                    pieces.append(piece)
                else:
                    refusal = unavailable(
                        "busy", "too many long requests are being read; retry later"
                    )
                if refusal is not None:
                    pieces.clear()
                    room.give_back(taken)
                    taken = 0
                    await throw_away(stream, length)
                    raise refusal
                piece = await anext(stream, None)
    except ClientDisconnect:
        raise cut_off() from None
    finally:
        room.give_back(taken)
    return b"".join(pieces)


def _longer_than(limit: int) -> Problem:
    return too_large(f"the request is longer than {limit} bytes (setting max_request)")


async def throw_away(stream: AsyncIterator[bytes], length: int) -> None:
    """Read the rest of a body, of which ``length`` bytes were read, within bounds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LONGEST_THROWING):
            async for chunk in stream:
                length += len(chunk)
                if length > MOST_THROWN_AWAY:
                    return


def cut_off() -> Problem:
    """Return the problem of a request whose client closed the connection."""
    return Problem(HTTPStatus.BAD_REQUEST, "cut-off", "the request ended early")


def too_large(detail: str) -> Problem:
    """Return the 413 of a request that is over a limit."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)


def decode(
    decoder: msgspec.json.Decoder[V],
    body: bytes | bytearray,
    *,
    code: str = "invalid-task",
    offset: int = 0,
) -> V:
    """Return a decoded JSON body; ``code`` is that of the problem if it is invalid.

    ``offset`` is the position in the whole body at which ``body`` begins.

    Raises:
        Problem: 400, it is not JSON; 422, it does not have the right shape.
    """
    try:
        check_encoding(body)
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise invalid(code, *field_and_reason(str(exc), decoder.type)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise bad_json(body, exc, offset=offset) from None


def check_encoding(body: bytes | bytearray) -> None:
    """Check that a body is UTF-8; msgspec does not check JSON that it does not decode.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), _PIECE):
        held, _ = decoder.getstate()
        try:
            decoder.decode(body[start : start + _PIECE], final=start + _PIECE >= len(body))
        except UnicodeDecodeError as exc:
            exc.start += start - len(held)
            raise


def invalid(code: str, field: str, reason: str) -> Problem:
    """Return the 422 of a field with an invalid value."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        code,
        f"{field}: {reason}" if field else reason,
        errors=(FieldError(field, reason),),
    )
