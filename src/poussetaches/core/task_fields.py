"""The fields of tasks in requests and responses, with their limits.

The API reads requests and writes responses with these structs; the client checks the options of
task functions with them. They derive from one another, so that a field is written once for all
requests that may have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from poussetaches.core.callback import URL_EXAMPLES, CallbackUrl
from poussetaches.core.errors import InvalidTask
from poussetaches.core.headers import MAX_HEADERS
from poussetaches.core.queue import Name
from poussetaches.core.queue_fields import Timeout
from poussetaches.core.responses import TaskResponse, TemplateResponse
from poussetaches.core.retry import TEN_YEARS, RetryFields, StatusField
from poussetaches.core.setting_source import Source
from poussetaches.core.target import MAX_URL
from poussetaches.core.task import Reason, TaskState

DEFAULT_KEY_TTL = (
    86_400.0  # seconds from the push; tasks that are pruned keep their key until then
)
LONGEST_KEY_TTL = 2_592_000  # seconds: 30 days

Method = Literal["POST", "PUT", "PATCH", "GET", "DELETE", "HEAD", "OPTIONS"]
Url = Annotated[str, Meta(min_length=1, max_length=MAX_URL, examples=URL_EXAMPLES)]
Headers = Annotated[dict[str, str], Meta(max_length=MAX_HEADERS)]
Expected = Annotated[tuple[StatusField, ...], Meta(min_length=1, max_length=32)]
OnConflict = Literal["keep", "replace"]
Priority = Annotated[int, Meta(ge=-100, le=100)]
Delay = Annotated[float, Meta(ge=0, le=TEN_YEARS)]  # seconds
Time = Annotated[datetime, Meta(tz=True)]
ShownTime = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
# PostgreSQL's text cannot contain a zero character.
_TEXT, _IN_WORDS = r"^[^\x00]*$", "text without a zero character"
Key = Annotated[str, Meta(min_length=1, max_length=200, pattern=_TEXT, description=_IN_WORDS)]
# Filters write a label as name:value.
LabelName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00:]*$",
        description="text without a colon or a zero character",
    ),
]
LabelValue = Annotated[str, Meta(max_length=200, pattern=_TEXT, description=_IN_WORDS)]
MAX_LABELS = 16
Labels = Annotated[dict[LabelName, LabelValue], Meta(max_length=MAX_LABELS)]

# A valid value of each option that queues do not have, for error messages.
EXAMPLES: Mapping[str, object] = {
    "queue": "mail",
    "delay": 60,
    "run_at": datetime(2027, 1, 31, 6, 30, tzinfo=UTC),
    "priority": 10,
    "max_attempts": 5,
    "key": "welcome-42",
    "unique": "user-42",
    "on_conflict": "replace",
    "expires_at": datetime(2027, 1, 31, 6, 30, tzinfo=UTC),
    "labels": {"user": "42"},
}


class _Common(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """Fields of pushes, templates of schedules, and patches of both."""

    method: Method | None = None
    json: msgspec.Raw | UnsetType = UNSET
    text: str | None = None
    body_base64: str | None = None
    priority: Priority | None = None
    expected: Expected | None = None
    timeout: Timeout | None = None
    retry: RetryFields | None = None
    on_success: CallbackUrl | None = None
    on_dead: CallbackUrl | None = None


class _CommonOfTasks(_Common, kw_only=True, frozen=True, gc=False):
    """Fields of pushes, and of patches of tasks."""

    run_at: Time | None = None
    expires_at: Time | None = None


class TaskFields(_CommonOfTasks, kw_only=True, frozen=True, gc=False):
    """The fields of a push; null is the same as a missing field."""

    url: Url
    headers: Headers | None = None
    labels: Labels | None = None
    queue: Name | None = None
    delay: Delay | None = None
    key: Key | None = None
    key_ttl: Annotated[float, Meta(gt=0, le=LONGEST_KEY_TTL)] | None = None  # seconds
    unique: Key | None = None
    on_conflict: OnConflict | None = None


class TaskChanges(_CommonOfTasks, kw_only=True, frozen=True, gc=False):
    """Changes of a task, as a merge patch (RFC 7396): null resets, or removes from an object."""

    url: Url | UnsetType = UNSET
    headers: dict[str, str | None] | None = None
    labels: dict[LabelName, LabelValue | None] | None = None


class _CommonOfTemplates(_Common, kw_only=True, frozen=True):
    """Fields of templates of schedules, and of their patches."""

    queue: Name | None = None


class TaskTemplate(_CommonOfTemplates, frozen=True, kw_only=True):
    """The task of every run: the fields of a push that are not particular to one run."""

    url: Url
    headers: Headers | None = None
    labels: Labels | None = None


class TemplatePatch(_CommonOfTemplates, frozen=True, kw_only=True):
    """Changes of a template; null resets."""

    url: Url | UnsetType = UNSET
    headers: dict[str, str | None] | None = None
    labels: dict[LabelName, LabelValue | None] | None = None


class ShownTask(TaskResponse[ShownTime], frozen=True):
    """Fields of a task in responses, in this order, without its headers and body."""

    state: TaskState
    reason: Reason | None
    expected: tuple[StatusField, ...]
    retry: RetryFields | None


class TemplateView(TemplateResponse, kw_only=True, frozen=True):
    """The task of every run. It has the fields of ``TaskTemplate``."""

    json: msgspec.Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET
    expected: tuple[StatusField, ...]
    retry: RetryFields | None


class TemplateSources(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of a template's values; ``body`` includes the kind of body."""

    url: Source
    method: Source
    headers: Source
    body: Source
    queue: Source
    priority: Source
    expected: Source
    timeout: Source
    retry: Source
    on_success: Source
    on_dead: Source
    labels: Source


def check_combination(
    *, delay: object, run_at: object, unique: object, on_conflict: object
) -> None:
    """Check that the options of a push do not contradict each other; None is not given.

    Raises:
        InvalidTask: two of them do.
    """
    if run_at is not None and delay is not None:
        raise InvalidTask("run_at", "give delay or run_at, not both")
    if on_conflict is not None and unique is None:
        raise InvalidTask("on_conflict", "requires unique")
