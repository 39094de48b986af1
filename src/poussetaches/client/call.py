"""Requests to the server, and the paths and queries that they consist of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from urllib.parse import quote, urlencode

import msgspec

from poussetaches.client.arguments import ArgumentError
from poussetaches.client.request_fields import Filter

JSON = "application/json"
_HEADER_TEXT = re.compile(r"[ -~]*")

Query = tuple[tuple[str, str], ...]


class Call(msgspec.Struct, frozen=True):
    """A request to the server; ``path`` is below the server's URL."""

    method: str
    path: str
    query: Query = ()
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name, value in self.headers:
            if not _HEADER_TEXT.fullmatch(value):
                raise ArgumentError(name, f"{value!r} cannot be sent in a header")

    @property
    def target(self) -> str:
        """The path with the query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


def path_of(start: str, *parts: str) -> str:
    """Return a path with ids, names and fixed parts after its start.

    Raises:
        ArgumentError: a part is not a string, or is empty.
    """
    for part in parts:
        check_name_or_id(part)
    return "/".join([start, *(quote(part, safe="") for part in parts)])


def check_name_or_id(given: object) -> None:
    """Check the id of a task, or the name of a queue or schedule.

    Raises:
        ArgumentError: it is not a string, or it is empty.
    """
    if not isinstance(given, str) or not given:
        raise ArgumentError("", f"{given!r} is not an id or a name; use a non-empty string")


def optional_query(**values: str | None) -> Query:
    """Return a query with the values that are not None."""
    return tuple((name, value) for name, value in values.items() if value is not None)


def filter_query(filter: Filter) -> Query:
    """Return a filter as a query."""
    query: list[tuple[str, str]] = []
    for name, value in filter.items():
        if name == "label" and not isinstance(value, str) and isinstance(value, Sequence):
            query += [(name, str(label)) for label in value]
        elif value is not None:
            query.append((name, _query_value(value)))
    return tuple(query)


def _query_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value)
    return ",".join(map(str, value))
