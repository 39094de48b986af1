"""Calls and responses of the API, and how responses are read; shared by all clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from poussetaches.client.base_values import decode_as_base
from poussetaches.client.config import URL
from poussetaches.client.effort import is_transient
from poussetaches.client.errors import (
    BY_CODE,
    BY_STATUS,
    ClientError,
    FieldError,
    NotUnderstood,
    Refused,
)

T = TypeVar("T")

JSON = "application/json"
EVENTS = "text/event-stream"
PROBLEM = "urn:poussetaches:problem:"
SHOWN = 200  # characters of an answer that is not ours, in an error
FIRST_ERROR = 400  # statuses from here on are problems


class Call(msgspec.Struct, frozen=True):
    """A request to the server; ``path`` is below the server's URL."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> str:
        """The path with the query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


class Answer(msgspec.Struct, frozen=True):
    """A response; the names of its headers are in lower case. ``url`` is the server's."""

    status: int
    headers: dict[str, str]
    body: bytes
    url: str = ""


class Request(msgspec.Struct, Generic[T], frozen=True):
    """A call, and how its answer is read. ``patience`` is the least timeout, in seconds."""

    call: Call
    read: Callable[[Answer], T]
    patience: float = 0.0


class _Problem(msgspec.Struct, frozen=True):
    type: str = ""
    title: str = ""
    detail: str = ""
    errors: list[FieldErrorDocument] = []


class FieldErrorDocument(msgspec.Struct, frozen=True):
    """A refused field in a problem document."""

    field: str = ""
    reason: str = ""


def read_as(kind: type[T]) -> Callable[[Answer], T]:
    """Return what reads an answer's JSON as a type.

    What it returns raises ``Refused`` for a problem, and ``NotUnderstood`` for other JSON.
    """

    @cache  # lazily: building all decoders would slow down the import
    def ready() -> msgspec.json.Decoder[T]:
        # A task's JSON may have numbers beyond floats: 1E400 is infinity, as in json.loads.
        return msgspec.json.Decoder(kind, float_hook=float, dec_hook=decode_as_base)

    def read(answer: Answer) -> T:
        check(answer)
        try:
            return ready().decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise not_understood(answer, str(exc)) from exc

    return read


def read_nothing(answer: Answer) -> None:
    """Check a response that has no content.

    Raises:
        Refused: the server answered with a problem.
        NotUnderstood: the answer is not the server's.
    """
    check(answer)
    if answer.status != HTTPStatus.NO_CONTENT:
        raise not_understood(answer, _shown(answer))


def check(answer: Answer) -> None:
    """Let pass what is no problem.

    Raises:
        Refused: it is one.
        NotUnderstood: the answer is not the server's; redirects are not followed.
    """
    if answer.status >= FIRST_ERROR:
        raise refusal(answer)
    if not 200 <= answer.status < 300:  # noqa: PLR2004  # what RFC 9110 calls successful
        raise not_understood(answer, f"redirect to {answer.headers.get('location', 'nowhere')}")


def check_events(head: Answer) -> None:
    """Check that a response is a stream of events.

    Raises:
        NotUnderstood: it is something else.
    """
    if not head.headers.get("content-type", "").startswith(EVENTS):
        raise not_understood(head, "no stream of events")


def with_body(head: Answer, body: bytes) -> Answer:
    """Return a response with the body that came piece by piece."""
    return msgspec.structs.replace(head, body=body)


def refusal(answer: Answer) -> ClientError:
    """Return the error for a response with an error status.

    A proxy's error that may pass (502, 429) is ``Refused``, as if the server had sent it. Any
    other answer that is not the server's is ``NotUnderstood``: its 404 or 422 is about something
    else.
    """
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem(detail=_shown(answer))
    code = problem.type.removeprefix(PROBLEM) if problem.type.startswith(PROBLEM) else ""
    if not code and not is_transient(answer.status):
        return not_understood(answer, problem.detail)
    kind = BY_CODE.get(code) or BY_STATUS.get(answer.status, Refused)
    return kind(
        answer.status,
        code=code,
        title=problem.title if code else _from_elsewhere(answer),
        detail=problem.detail,
        errors=[FieldError(error.field, error.reason) for error in problem.errors],
        retry_after=_seconds(answer.headers.get("retry-after", "")),
    )


def not_understood(answer: Answer, why: str) -> NotUnderstood:
    """Return the error for an answer that is not from a poussetaches server."""
    what = f"{answer.status} {_from_elsewhere(answer)}"
    return NotUnderstood(f"{what}: {why}" if why else what, status=answer.status)


def _from_elsewhere(answer: Answer) -> str:
    return (
        f"from {answer.url or 'the server'} is not an answer of poussetaches (check the server's"
        f" URL, {URL}, and any proxy in front of it)"
    )


def _shown(answer: Answer) -> str:
    return answer.body[:SHOWN].decode("utf-8", "replace").strip()


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None
