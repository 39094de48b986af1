"""Reading requests: bodies within their limit, JSON into the structs that validate it."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from poussetaches.api.problems import FieldError, Problem
from poussetaches.api.refusal import place_of

V = TypeVar("V")

# What is over a limit is thrown away up to here, so that the client gets to read the answer.
MOST_THROWN_AWAY = 64 * 1024 * 1024  # bytes
LONGEST_THROWING = 10.0  # seconds

_PIECE = 64 * 1024  # bytes; text takes up to four times as much


async def read_body(request: Request, *, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        Problem: 413, it is longer than ``limit`` bytes.
    """
    chunks, length = [], 0
    while True:  # not Request.stream(), which takes as long as reading a push
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise cut_off()
        chunks.append(message.get("body", b""))
        length += len(chunks[-1])
        if length > limit:
            break
        if not message.get("more_body"):
            return b"".join(chunks)
    chunks.clear()
    if message.get("more_body"):
        try:
            await throw_away(request.stream(), length)
        except ClientDisconnect:
            raise cut_off() from None
    raise too_large(f"the request is longer than {limit} bytes (setting max_request)")


async def throw_away(stream: AsyncIterator[bytes], length: int) -> None:
    """Read the rest of a body, of which ``length`` bytes were read, within bounds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LONGEST_THROWING):
            async for chunk in stream:
                length += len(chunk)
                if length > MOST_THROWN_AWAY:
                    return


def cut_off() -> Problem:
    """Return the problem of a request whose client hung up, which nobody will read."""
    return Problem(HTTPStatus.BAD_REQUEST, "cut-off", "the request broke off")


def too_large(detail: str) -> Problem:
    """Return the problem of something that is over its limit."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)


def decode(
    decoder: msgspec.json.Decoder[V], body: bytes | bytearray, *, code: str = "invalid-task"
) -> V:
    """Return what a JSON body holds; ``code`` is the problem's when it is not allowed.

    Raises:
        Problem: 400, it is not JSON; 422, it has not the right shape, with the field's name.
    """
    try:
        check_encoding(body)
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise invalid(code, *place_of(str(exc), decoder.type)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        reason = "too deeply nested" if isinstance(exc, RecursionError) else str(exc)
        detail = f"the body is not JSON that can be read: {reason}"
        raise Problem(HTTPStatus.BAD_REQUEST, "bad-json", detail) from None


def check_encoding(body: bytes | bytearray) -> None:
    """Refuse what is not UTF-8; msgspec does not look into JSON that is passed on as it is.

    Raises:
        UnicodeDecodeError: it is not.
    """
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), _PIECE):
        decoder.decode(body[start : start + _PIECE])
    decoder.decode(b"", final=True)


def invalid(code: str, field: str, reason: str) -> Problem:
    """Return the problem of a field that is not allowed."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        code,
        f"{field}: {reason}" if field else reason,
        errors=(FieldError(field, reason),),
    )
