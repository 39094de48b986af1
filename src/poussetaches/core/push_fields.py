"""The options of a push as they are written, and the rules for them.

The API checks requests with them, the client the options of task functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta

from poussetaches.core.errors import InvalidTask
from poussetaches.core.retry import TEN_YEARS

OnConflict = Literal["keep", "replace"]
Priority = Annotated[int, Meta(ge=-100, le=100)]
Delay = Annotated[float, Meta(ge=0, le=TEN_YEARS)]  # seconds
Time = Annotated[datetime, Meta(tz=True)]
# PostgreSQL's text has no place for a zero character.
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

# Fields that a schedule's task cannot have.
OF_ONE_RUN = ("delay", "run_at", "expires_at", "key", "key_ttl", "unique", "on_conflict")
NOT_IN_SCHEDULES = (
    "cannot be set in a schedule, where it would be the same for every run; remove it"
)

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
        raise InvalidTask("on_conflict", "has no meaning without unique")
