from __future__ import annotations

import pytest

from poussetaches.core.filter import TaskFilter
from poussetaches.core.task import TaskState


def test_filter_without_a_condition_is_empty() -> None:
    assert TaskFilter().is_empty


@pytest.mark.parametrize(
    "condition",
    [
        {"ids": ()},
        {"states": frozenset[TaskState]()},
        {"failing": True},
        {"queue": "default"},
        {"labels": (("user", "17"),)},
        {"text": ""},
        {"since": 0},
    ],
    ids=str,
)
def test_filter_with_a_condition_is_not_empty(condition: dict[str, object]) -> None:
    """Not even one that selects nothing: what is done to "all" must be asked for."""
    assert not TaskFilter(**condition).is_empty  # type: ignore[arg-type]  # by name
