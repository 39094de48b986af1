"""What must have happened in any thousand histories: else they prove less than they seem to."""

from __future__ import annotations

from collections.abc import Mapping

from poussetaches.store.base import Change
from poussetaches.store.sqlite.transaction import Fate, Step
from tests.fakes import NO_DESCRIPTORS, NO_PORTS
from tests.simulation.disk import Fault
from tests.simulation.network import Mood
from tests.simulation.poison import STEPS
from tests.simulation.world import JUMPS

FEWEST_HISTORIES = 1000

MUST_HAPPEN = (
    *(f"jump of {sign * seconds} s" for seconds in JUMPS for sign in (-1, 1)),
    *Fault,
    *(f"answer of a receiver that is {mood}" for mood in Mood),
    *(f"task {change}" for change in Change),
    *("crash between two steps", "stop", "start in vain", "commit on a full disk"),
    *("commit on a broken disk", "attempt cut off by a crash", "attempt cut off by a stop"),
    *("attempt charged unsent", "probe", "canary that left", "task pruned", "purge", "pause"),
    *(f"shortage: {outcome.error}" for outcome in (NO_DESCRIPTORS, NO_PORTS)),
    *("log: out of resources, attempts are put back", "want of descriptors"),
    *("push that came to an earlier task", "DELETE /cron"),
    "push of unknown outcome that was stored",
    *("answer 201", "answer 409", "answer 503", "answer 507"),
    *("log: origin held", "log: origin released", "log: schedule fired", "log: occurrence missed"),
    *("log: occurrence skipped: last run not over, or schedule changed", "log: tasks expired"),
    *("log: store cannot be written", "log: store can be written again"),
    *("push of an odd URL", "stored URL that parsers differ over", "row that became unreadable"),
    *(f"row that failed while {step}" for step in (*STEPS, Step.FIRE, Step.PRUNE)),
    *(f"row that failed was {fate}" for fate in Fate),
    *("log: schedule starts anew, it was of a time still to come", "log: clock was set ahead"),
    *("log: clock was set back", "log: tasks due again after the clock was set back"),
    *("log: clock is confirmed", "log: process was suspended"),
    *("wrong time", "restart of the machine", "sleep of the machine", "rated attempt"),
)


def never_seen(seen: Mapping[str, int]) -> list[str]:
    """Return what should have happened, and never did."""
    return [name for name in MUST_HAPPEN if not seen.get(name)]
