"""Reading requests: bodies within their limit, JSON into the structs that validate it."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from poussetaches.api.problems import FieldError, Problem

V = TypeVar("V")

# What is over a limit is thrown away up to here, so that the client gets to read the answer.
MOST_THROWN_AWAY = 64 * 1024 * 1024  # bytes
LONGEST_THROWING = 10.0  # seconds

_PLACE = re.compile(r"^(?P<reason>.*?)(?: - at `\$\.?(?P<field>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")


async def read_body(request: Request, *, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        Problem: 413, it is longer than ``limit`` bytes.
    """
    chunks, length = [], 0
    stream = request.stream()
    try:
        async for chunk in stream:
            length += len(chunk)
            if length > limit:
                break
            chunks.append(chunk)
        else:
            return b"".join(chunks)
        chunks.clear()
        async with asyncio.timeout(LONGEST_THROWING):
            async for chunk in stream:
                length += len(chunk)
                if length > MOST_THROWN_AWAY:
                    break
    except TimeoutError:
        pass
    except ClientDisconnect:
        raise Problem(HTTPStatus.BAD_REQUEST, "cut-off", "the request broke off") from None
    raise too_large(f"the request is longer than {limit} bytes (setting max_request)")


def too_large(detail: str) -> Problem:
    """Return the problem of something that is over its limit."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)


def decode(decoder: msgspec.json.Decoder[V], body: bytes) -> V:
    """Return what a JSON body holds.

    Raises:
        Problem: 400, it is not JSON; 422, it has not the right shape, with the field's name.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        reason = "too deeply nested" if isinstance(exc, RecursionError) else str(exc)
        detail = f"the body is not JSON that can be read: {reason}"
        raise Problem(HTTPStatus.BAD_REQUEST, "bad-json", detail) from None


def _invalid(message: str) -> Problem:
    match = _PLACE.match(message)
    assert match is not None
    missing = _MISSING.search(message)
    field = match["field"] or (missing["field"] if missing else "")
    reason = "is missing" if missing else match["reason"]
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-task",
        f"{field}: {reason}" if field else reason,
        errors=(FieldError(field, reason),),
    )
