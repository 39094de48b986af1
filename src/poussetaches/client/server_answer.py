"""Answers of the server: reading them as values, or as errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from poussetaches.client.base_values import decode_as_base
from poussetaches.client.environment import API_TOKEN, URL
from poussetaches.client.errors import (
    BY_CODE,
    BY_STATUS,
    ClientError,
    FieldError,
    NotUnderstood,
    Refused,
)
from poussetaches.client.retry_timer import is_temporary_status

T = TypeVar("T")

EVENTS = "text/event-stream"
PROBLEM = "urn:poussetaches:problem:"
SET_TOKEN = f"set {API_TOKEN}, or token= in the code, to the server's api_token"
EXCERPT = 200  # bytes of a foreign answer in an error
# Filled on first use: building all decoders would slow down the import.
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {}
FIRST_ERROR = 400  # this status and higher ones are errors


class Answer(msgspec.Struct, frozen=True):
    """A response. Header names are in lower case; ``url`` is the server's, for messages."""

    status: int
    headers: dict[str, str]
    body: bytes
    url: str = ""


class _Problem(msgspec.Struct, frozen=True):
    type: str = ""
    title: str = ""
    detail: str = ""
    errors: list[FieldErrorDocument] = []


class FieldErrorDocument(msgspec.Struct, frozen=True):
    """A refused field in a problem document."""

    field: str = ""
    reason: str = ""


def read_answer(answer: Answer, kind: type[T]) -> T:
    """Return an answer's JSON as a type.

    Raises:
        Refused: the server answered with a problem.
        NotUnderstood: the answer is not JSON of this type.
    """
    check_status(answer)
    try:
        return _decoder(kind).decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise not_understood(answer, str(exc)) from exc


def check_empty(answer: Answer) -> None:
    """Check an answer that has no content.

    Raises:
        Refused: the server answered with a problem.
        NotUnderstood: the answer is not from a poussetaches server.
    """
    check_status(answer)
    if answer.status != HTTPStatus.NO_CONTENT:
        raise not_understood(answer, _excerpt(answer))


def check_status(answer: Answer) -> None:
    """Check that an answer is a success.

    Raises:
        Refused: the server answered with a problem.
        NotUnderstood: the answer is not from a poussetaches server, or is a redirect.
    """
    if answer.status >= FIRST_ERROR:
        raise refusal(answer)
    if not 200 <= answer.status < 300:  # noqa: PLR2004  # what RFC 9110 calls successful
        raise not_understood(
            answer, f"redirect to {answer.headers.get('location', 'an unknown location')}"
        )


def check_events(head: Answer) -> None:
    """Check that an answer is a stream of events.

    Raises:
        NotUnderstood: it is not.
    """
    if not head.headers.get("content-type", "").startswith(EVENTS):
        raise not_understood(head, "this is not a stream of events")


def refusal(answer: Answer) -> ClientError:
    """Return the error for a response with an error status.

    A temporary error of a proxy (502, 429) is ``Refused``, as if the server had sent it. Any
    other foreign answer is ``NotUnderstood``: its 404 or 422 refers to something else.
    """
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem(detail=_excerpt(answer))
    code = problem.type.removeprefix(PROBLEM) if problem.type.startswith(PROBLEM) else ""
    if not code and not is_temporary_status(answer.status):
        return not_understood(answer, problem.detail)
    kind = BY_CODE.get(code) or BY_STATUS.get(answer.status, Refused)
    is_tokenless = answer.status == HTTPStatus.UNAUTHORIZED
    return kind(
        answer.status,
        code=code,
        title=problem.title if code else _from_elsewhere(answer),
        detail=f"{problem.detail}; {SET_TOKEN}" if is_tokenless else problem.detail,
        errors=[FieldError(error.field, error.reason) for error in problem.errors],
        retry_after=_seconds(answer.headers.get("retry-after", "")),
    )


def not_understood(answer: Answer, why: str) -> NotUnderstood:
    """Return the error for an answer that is not from a poussetaches server."""
    what = f"{answer.status} {_from_elsewhere(answer)}"
    return NotUnderstood(f"{what}: {why}" if why else what, status=answer.status)


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    if kind not in _DECODERS:
        # A task's JSON may have numbers that no float can hold: 1E400 is read as infinity.
        decoder = msgspec.json.Decoder(kind, float_hook=float, dec_hook=decode_as_base)
        _DECODERS[kind] = decoder
    return _DECODERS[kind]


def _from_elsewhere(answer: Answer) -> str:
    return (
        f"from {answer.url or 'the server'} is not a poussetaches response (check the server's"
        f" URL, {URL}, and any proxy in front of it)"
    )


def _excerpt(answer: Answer) -> str:
    return answer.body[:EXCERPT].decode("utf-8", "replace").strip()


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None
