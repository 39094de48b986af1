"""Filters, which select tasks in lists and bulk operations."""

from __future__ import annotations

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.task import Reason, TaskState


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that meet every condition that is set; without any, all tasks.

    Time ranges include their beginning and exclude their end.
    """

    ids: tuple[str, ...] | None = None
    states: frozenset[TaskState] | None = None
    failing: bool = False  # waiting or running, after a failed attempt of this round
    queue: str | None = None
    labels: tuple[tuple[str, str], ...] = ()  # names and values; all of them
    url: str | None = None  # its prefix
    key: str | None = None
    schedule: str | None = None
    reason: Reason | None = None
    group: str | None = None  # id of a failure group
    text: str | None = None  # somewhere in the URL, the last error or a label's value
    since: Moment | None = None  # of created_at
    until: Moment | None = None
    ended_since: Moment | None = None
    ended_until: Moment | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it selects all tasks."""
        return self == TaskFilter()
