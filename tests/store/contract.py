"""What every kind of store must do: one test for each rule in the docstrings of ``Store``."""

from __future__ import annotations

from tests.store.schedule_rules import ScheduleRules
from tests.store.task_rules import TaskRules


class StoreContract(TaskRules, ScheduleRules):
    """The whole contract. Subclasses provide the ``store`` fixture, which opens and closes it."""
