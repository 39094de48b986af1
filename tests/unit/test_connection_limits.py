"""Limits of connections: how long each may wait, and which one makes room."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from poussetaches.server.connection_limits import LINGER, Patience


@dataclass(eq=False)
class Caller:
    """A connection that records its end."""

    waits_for_client: bool = True
    is_idle: bool = False
    age: int = 0
    unread: int = 0
    fate: str = "open"

    def give_up(self) -> None:
        self.fate = "given up"

    def turn_away(self) -> None:
        self.fate = "turned away"

    def abort(self) -> None:
        self.fate = "aborted"


@pytest.fixture
def patience() -> Patience:
    return Patience(most=3, longest=2, longest_unread=3, most_unread=100)


def came(patience: Patience, *callers: Caller) -> None:
    for caller in callers:
        patience.came(caller)


async def test_connection_is_given_up_when_it_was_waited_for_too_long(patience: Patience) -> None:
    caller = Caller()
    came(patience, caller)

    patience.check()
    after_one_look = caller.fate
    patience.check()

    assert (after_one_look, caller.fate) == ("open", "given up")


async def test_connection_is_not_waited_for_while_it_is_answered(patience: Patience) -> None:
    caller = Caller(waits_for_client=False)
    came(patience, caller)

    for _ in range(5):
        patience.check()
    caller.waits_for_client = True
    patience.check()

    assert (caller.fate, caller.age) == ("open", 1)


async def test_connection_that_waited_longest_makes_room(patience: Patience) -> None:
    old, busy, new = Caller(age=1), Caller(waits_for_client=False, age=9), Caller()
    came(patience, busy, new, old)

    came(patience, Caller())

    assert [caller.fate for caller in (busy, new, old)] == ["open", "open", "aborted"]


async def test_connection_is_turned_away_when_all_others_are_answered(patience: Patience) -> None:
    others = [Caller(waits_for_client=False) for _ in range(3)]
    one_too_many = Caller()

    came(patience, *others, one_too_many)

    assert [caller.fate for caller in others] == ["open"] * 3
    assert one_too_many.fate == "turned away"


async def test_a_tenth_of_the_connections_is_refused_at_once_to_make_room() -> None:
    patience = Patience(most=100)
    callers = [Caller() for _ in range(102)]

    came(patience, *callers)

    fates = [caller.fate for caller in callers]
    assert fates == ["aborted"] * 2 + ["given up"] * 8 + ["open"] * 92


async def test_refused_new_connection_makes_room_for_the_next(patience: Patience) -> None:
    others = [Caller(waits_for_client=False) for _ in range(3)]
    refused, newcomer = Caller(), Caller()
    came(patience, *others, refused)
    patience.refused(refused)

    came(patience, newcomer)

    assert (refused.fate, newcomer.fate) == ("aborted", "open")


async def test_refused_connection_counts_until_it_is_closed(patience: Patience) -> None:
    callers = [Caller() for _ in range(3)]
    came(patience, *callers)
    for caller in callers:
        patience.refused(caller)

    came(patience, Caller(), Caller())

    assert [caller.fate for caller in callers] == ["aborted", "aborted", "open"]


async def test_refused_connection_is_aborted_when_its_client_stays(patience: Patience) -> None:
    caller = Caller()
    came(patience, caller)
    patience.refused(caller)

    fates = []
    for _ in range(LINGER):
        fates.append(caller.fate)
        patience.check()

    assert fates == ["open"] * LINGER
    assert caller.fate == "aborted"


async def test_connection_of_a_client_that_does_not_read_is_aborted(patience: Patience) -> None:
    caller = Caller(unread=10)
    came(patience, caller)

    fates = []
    for _ in range(4):
        patience.check()
        fates.append(caller.fate)

    assert fates == ["open", "open", "aborted", "aborted"]


async def test_client_that_reads_slowly_keeps_its_connection(patience: Patience) -> None:
    caller = Caller(unread=10)
    came(patience, caller)

    for unread in range(10, 0, -1):
        caller.unread = unread
        patience.check()
        patience.check()

    assert caller.fate == "open"


async def test_too_many_unread_bytes_abort_the_longest_stalled_connection(
    patience: Patience,
) -> None:
    first, second, third = callers = [Caller(unread=40) for _ in range(3)]
    came(patience, *callers)

    for caller in callers:
        patience.stalled(caller)

    assert [first.fate, second.fate, third.fate] == ["aborted", "open", "open"]


async def test_client_that_reads_is_aborted_last(
    patience: Patience,
) -> None:
    reading, deaf, newest = callers = [Caller(unread=40) for _ in range(3)]
    came(patience, *callers)
    patience.stalled(reading)
    patience.stalled(deaf)

    reading.unread = 30
    patience.stalled(newest)

    assert [caller.fate for caller in callers] == ["open", "aborted", "open"]


async def test_answer_that_was_read_no_longer_counts(patience: Patience) -> None:
    first, *others = callers = [Caller(unread=40) for _ in range(3)]
    came(patience, *callers)
    patience.stalled(first)

    patience.resumed(first)
    for caller in others:
        patience.stalled(caller)

    assert [caller.fate for caller in callers] == ["open"] * 3


async def test_newest_connection_is_kept_even_over_the_limit(patience: Patience) -> None:
    other, caller = Caller(unread=1), Caller(unread=1000)
    came(patience, other, caller)
    patience.stalled(other)

    patience.stalled(caller)

    assert (other.fate, caller.fate) == ("aborted", "open")


async def test_connection_that_went_takes_no_room(patience: Patience) -> None:
    first, *others = [Caller() for _ in range(4)]
    came(patience, first, *others[:2])

    patience.went(first)
    came(patience, others[2])

    assert [caller.fate for caller in others] == ["open"] * 3
