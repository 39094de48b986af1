"""docs/protocol.md and its neighbours against the code: the tables are complete and exact."""

from __future__ import annotations

import re

import msgspec
import pytest
from prometheus_client.exposition import generate_latest

from poussetaches.api.filter_fields import FilterFields
from poussetaches.api.metrics import Collector, Measurements
from poussetaches.api.schedule_fields import ScheduleFields
from poussetaches.api.views import AttemptView, TaskView
from poussetaches.core.queue import QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.core.task import Reason
from poussetaches.core.task_fields import TaskFields
from poussetaches.core.wait_reason import WaitReason
from poussetaches.engine.stats import Totals
from poussetaches.store.base import Change
from tests.docs.shell import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text()
LIFECYCLE = (ROOT / "docs" / "lifecycle.md").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()
EVENTS = (ROOT / "src" / "poussetaches" / "api" / "event_hub.py").read_text()


def table(title: str, *, page: str = PAGE) -> set[str]:
    """Return the names in the first column of the table that has this title there."""
    rows = page.partition(f"| {title} |")[2].partition("\n\n")[0].splitlines()[2:]
    assert rows, f"there is no table {title!r}"
    return {
        name for row in rows for name in re.findall(r"[`*]([a-z0-9_]+)[`*]", row.split("|")[1])
    }


def list_of(title: str) -> set[str]:
    """Return the names in the paragraph that begins with a title."""
    paragraph = PAGE.partition(title)[2].lstrip("\n").partition("\n")[0]
    return set(re.findall(r"`([a-z0-9_]+)`", re.sub(r"\([^)]*\)", "", paragraph)))


def fields_of(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


@pytest.mark.parametrize(
    ("title", "struct"),
    [
        ("field | meaning | default", TaskFields),
        ("field | selects", FilterFields),
        ("setting | default | meaning", QueueSettings),
        ("field of the policy | default | meaning", RetryPolicy),
    ],
)
def test_every_field_has_its_row(title: str, struct: type[msgspec.Struct]) -> None:
    assert table(title) == fields_of(struct)


def test_every_field_of_a_schedule_has_its_row() -> None:
    schedules = PAGE.partition("\n## Schedules")[2]

    assert table("field | meaning | default", page=schedules) == fields_of(ScheduleFields)


@pytest.mark.parametrize(
    ("title", "struct"), [("### A task", TaskView), ("**An attempt**: ", AttemptView)]
)
def test_every_field_of_an_answer_is_named(title: str, struct: type[msgspec.Struct]) -> None:
    assert fields_of(struct) <= list_of(title)


def test_every_reason_to_wait_has_its_row() -> None:
    assert table("reason | the task waits because") == set(WaitReason)


def test_every_reason_to_die_has_its_row() -> None:
    assert table("reason | meaning | arrow", page=LIFECYCLE) == set(Reason)


def test_every_event_has_its_row() -> None:
    told = set(re.findall(r'(?:_add\(|encode_event\(self\._id, )"(\w+)"', EVENTS))

    assert table("event | data | reports") == told


def test_every_change_of_a_task_is_named() -> None:
    (row,) = re.findall(r'^\| `task` \| `\{"id", .*$', PAGE, re.MULTILINE)

    assert set(Change) <= set(re.findall(r"`(\w+)`", row))


def test_every_metric_has_its_row() -> None:
    numbers = Measurements(
        queues={},
        totals=Totals(),
        pruned={},
        in_flight=0,
        held_origin_count=0,
        paused=False,
        store_bytes=0,
        oldest_due_age=0.0,
        dropped_log_lines=0,
    )
    told = generate_latest(Collector(numbers)).decode()

    assert table("metric | labels |", page=OPERATING) == set(
        re.findall(r"^# TYPE (\w+)", told, re.MULTILINE)
    )
