"""``FilterFields``: filters of tasks in JSON and in queries."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from poussetaches.core.errors import InvalidFilter
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment, moment_of
from poussetaches.core.queue import Name
from poussetaches.core.task import Reason, TaskState
from poussetaches.core.task_fields import Key

MAX_IDS = 10_000  # as many as a batch can have
MAX_LABELS = 16  # as many as a task can have
REPEATABLE = ("label",)  # parameters that a query may repeat
FILTER_CODE = "invalid-filter"

# Shorter than the URLs of pushes: a query must fit into the 64 KiB of a request head.
UrlPrefix = Annotated[str, Meta(min_length=1, max_length=2_000)]
Text = Annotated[str, Meta(min_length=1, max_length=500)]
Group = Annotated[
    str, Meta(pattern="^[0-9a-f]{1,64}$", description="a group of GET /v1/failures, in hex digits")
]
Time = Annotated[datetime, Meta(tz=True)]


class FilterFields(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Conditions on tasks; a task must meet all of them.

    A list is a JSON array or a comma-separated string; ``label`` is ``name:value``.
    """

    ids: str | list[str] | None = None
    state: str | list[str] | None = None
    failing: bool | None = None
    queue: Name | None = None
    label: str | list[str] | None = None
    url: UrlPrefix | None = None
    key: Key | None = None
    schedule: Name | None = None
    reason: Reason | None = None
    group: Group | None = None
    text: Text | None = None
    since: Time | None = None
    until: Time | None = None
    ended_since: Time | None = None
    ended_until: Time | None = None

    def filter(self) -> TaskFilter:
        """Return the filter.

        Raises:
            InvalidFilter: no task can meet a condition.
        """
        return TaskFilter(
            ids=None if self.ids is None else _listed("ids", self.ids),
            states=None if self.state is None else _states(_listed("state", self.state)),
            failing=bool(self.failing),
            queue=self.queue,
            labels=_labels(self.label),
            url=self.url,
            key=self.key,
            schedule=self.schedule,
            reason=self.reason,
            group=self.group,
            text=self.text,
            since=_moment(self.since),
            until=_moment(self.until),
            ended_since=_moment(self.ended_since),
            ended_until=_moment(self.ended_until),
        )


def _listed(field: str, given: str | list[str]) -> tuple[str, ...]:
    count = given.count(",") + 1 if isinstance(given, str) else len(given)
    if count > MAX_IDS:
        raise InvalidFilter(
            field, f"has {count} values; at most {MAX_IDS} are allowed per request"
        )
    items = given.split(",") if isinstance(given, str) else given
    return tuple(dict.fromkeys(item.strip() for item in items if item.strip()))


def _states(names: tuple[str, ...]) -> frozenset[TaskState]:
    allowed = ", ".join(sorted(TaskState))
    if not names:
        raise InvalidFilter("state", f"is empty; use one or more of {allowed}")
    for name in names:
        if name not in set(TaskState):
            raise InvalidFilter("state", f"{name!r} is not one of {allowed}")
    return frozenset(map(TaskState, names))


def _labels(given: str | list[str] | None) -> tuple[tuple[str, str], ...]:
    items = [given] if isinstance(given, str) else given or []
    if len(items) > MAX_LABELS:
        raise InvalidFilter("label", f"has {len(items)} values; at most {MAX_LABELS} are allowed")
    labels = []
    for item in items:
        name, colon, value = item.partition(":")
        if not colon or not name:
            raise InvalidFilter("label", f"must have the form name:value, not {item!r}")
        labels.append((name, value))
    return tuple(labels)


def _moment(time: datetime | None) -> Moment | None:
    return None if time is None else moment_of(time)
