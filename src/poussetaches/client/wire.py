"""Calls and responses of the API, and how responses are read; shared by all clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from poussetaches.client.base_values import decode_as_base
from poussetaches.client.errors import BY_CODE, BY_STATUS, FieldError, NotUnderstood, Refused

T = TypeVar("T")

JSON = "application/json"
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
    """What the server answered; the names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


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
            raise NotUnderstood(
                f"the answer is none that poussetaches gives ({exc}): does the URL lead to it?"
            ) from exc

    return read


def read_nothing(answer: Answer) -> None:
    """Read an answer that says no more than that it was done.

    Raises:
        Refused: it was not.
    """
    check(answer)


def check(answer: Answer) -> None:
    """Let pass what is no problem.

    Raises:
        Refused: it is one.
        NotUnderstood: it leads elsewhere; redirects are not followed.
    """
    if answer.status >= FIRST_ERROR:
        raise refusal(answer)
    if not 200 <= answer.status < 300:  # noqa: PLR2004  # what RFC 9110 calls successful
        raise NotUnderstood(f"the answer has the status {answer.status}, which is not ours")


def refusal(answer: Answer) -> Refused:
    """Return the error for a problem response, whatever server sent it."""
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem(detail=answer.body[:SHOWN].decode("utf-8", "replace").strip())
    code = problem.type.removeprefix(PROBLEM) if problem.type.startswith(PROBLEM) else ""
    kind = BY_CODE.get(code) or BY_STATUS.get(answer.status, Refused)
    return kind(
        answer.status,
        code=code,
        title=problem.title or "answered in the server's place",
        detail=problem.detail,
        errors=[FieldError(error.field, error.reason) for error in problem.errors],
        retry_after=_seconds(answer.headers.get("retry-after", "")),
    )


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None
