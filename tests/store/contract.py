"""The contract of all stores: one test for each rule in the docstrings of ``Store``."""

from __future__ import annotations

from tests.store.clock_rules import ClockRules
from tests.store.edit_rules import EditRules
from tests.store.export_rules import ExportRules
from tests.store.give_back_rules import GiveBackRules
from tests.store.push_rules import PushRules
from tests.store.queue_rules import QueueRules
from tests.store.schedule_change_rules import ScheduleChangeRules
from tests.store.schedule_rules import ScheduleRules
from tests.store.search_rules import SearchRules
from tests.store.task_rules import TaskRules
from tests.store.version_rules import VersionRules


class StoreContract(
    TaskRules,
    GiveBackRules,
    PushRules,
    EditRules,
    SearchRules,
    QueueRules,
    ScheduleRules,
    ScheduleChangeRules,
    ExportRules,
    ClockRules,
    VersionRules,
):
    """The whole contract. Subclasses provide the ``store`` fixture, which opens and closes it."""
