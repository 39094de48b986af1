"""The events that must occur in a thousand histories. Without them, a run proves too little."""

from __future__ import annotations

from collections.abc import Mapping

from poussetaches.store.base import Change
from poussetaches.store.sqlite.transaction import Fate, Step
from tests.fakes import NO_DESCRIPTORS, NO_PORTS
from tests.simulation.disk import Fault
from tests.simulation.network import Behaviour
from tests.simulation.poison import STEPS
from tests.simulation.world import JUMPS

MIN_HISTORIES = 1000

MUST_HAPPEN = (
    *(f"jump of {sign * seconds} s" for seconds in JUMPS for sign in (-1, 1)),
    *Fault,
    *(f"answer of a receiver that is {behaviour}" for behaviour in Behaviour),
    *(f"task {change}" for change in Change),
    *("crash between two steps", "stop", "failed start", "commit on a full disk"),
    *("commit on a broken disk", "attempt cut off by a crash", "attempt cut off by a stop"),
    *(
        "attempt charged unsent",
        "restart not forgiven",
        "probe",
        "canary that was sent",
        "task pruned",
        "purge",
        "pause",
    ),
    *(f"shortage: {outcome.error}" for outcome in (NO_DESCRIPTORS, NO_PORTS)),
    *("log: out of resources, attempts are put back", "shortage"),
    *("push that found an earlier task", "DELETE /cron"),
    "push of unknown outcome that was stored",
    *("answer 201", "answer 409", "answer 503", "answer 507"),
    *("log: origin held", "log: origin released", "log: schedule fired", "log: occurrence missed"),
    *("log: occurrence skipped: last run not over, or schedule changed", "log: tasks expired"),
    *("log: store cannot be written", "log: store can be written again"),
    *("push of an odd URL", "stored URL that parsers differ over", "row that became unreadable"),
    *(f"row that failed while {step}" for step in (*STEPS, Step.FIRE, Step.PRUNE)),
    *(f"row that failed was {fate}" for fate in Fate),
    *("log: schedule restarted after the clock was set back", "log: clock was set ahead"),
    *("log: clock was set back", "log: tasks due again after the clock was set back"),
    *("log: clock is confirmed", "log: process was suspended"),
    *("wrong time for a while", "restart of the machine", "suspended machine", "rated attempt"),
)


def missing_events(seen: Mapping[str, int]) -> list[str]:
    """Return the expected events that did not occur."""
    return [name for name in MUST_HAPPEN if not seen.get(name)]
