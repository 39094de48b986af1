"""The account of a crash test: how often each task was delivered."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from poussetaches.cli.crash_test.load import BACKOFF, PushRecord
from poussetaches.cli.crash_test.task_receiver import FAILING, Delivery


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a crash test. ``bound`` is the maximum number of repeats."""

    kills: int
    acknowledged: int
    unacknowledged: int  # pushes without a response
    unacknowledged_delivered: int
    once: int  # tasks delivered as often as their attempts need
    repeated: int  # tasks delivered more often
    repeats: int  # additional deliveries
    bound: int
    lost: list[str]
    early: list[str]
    problems: list[str] = []  # what ``verify`` found in the folder afterwards

    @property
    def is_fine(self) -> bool:
        """Whether every guarantee was kept."""
        return not (self.lost or self.early or self.problems) and self.repeats <= self.bound


def account_of(
    pushed: Mapping[str, PushRecord],
    deliveries: Sequence[Delivery],
    *,
    kills: int,
    in_flight: int,
    problems: list[str],
) -> Account:
    """Return the account; a kill interrupts at most ``in_flight`` attempts."""
    counts = Counter(delivery.name for delivery in deliveries)
    extra = {name: count - needed(name) for name, count in counts.items()}
    acknowledged = {name for name, push in pushed.items() if push.acknowledged}
    return Account(
        kills=kills,
        acknowledged=len(acknowledged),
        unacknowledged=len(pushed) - len(acknowledged),
        unacknowledged_delivered=len(counts.keys() - acknowledged),
        once=sum(count == 0 for count in extra.values()),
        repeated=sum(count > 0 for count in extra.values()),
        repeats=sum(count for count in extra.values() if count > 0),
        bound=kills * in_flight,
        # A task without its second attempt is lost as well.
        lost=sorted(name for name in acknowledged if counts[name] < needed(name)),
        early=sorted(early(pushed, deliveries)),
        problems=problems,
    )


def needed(name: str) -> int:
    """Return the number of attempts that a task needs."""
    return 2 if name.endswith(FAILING) else 1


def early(pushed: Mapping[str, PushRecord], deliveries: Sequence[Delivery]) -> set[str]:
    """Return the tasks that were delivered before the end of their delay or backoff.

    An attempt whose outcome was not recorded is repeated with the same number, so the backoff
    starts after the last delivery with number 1.
    """
    first: defaultdict[str, float] = defaultdict(float)
    for delivery in deliveries:
        if delivery.attempt == 1:
            first[delivery.name] = max(first[delivery.name], delivery.at)
    return {
        delivery.name
        for delivery in deliveries
        if delivery.at < pushed[delivery.name].due_at
        or (delivery.attempt > 1 and delivery.at < first[delivery.name] + BACKOFF)
    }
