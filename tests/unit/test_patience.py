"""Who is waited for, for how long, and who makes room."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from poussetaches.server.patience import Patience


@dataclass(eq=False)
class Caller:
    """A connection that remembers what became of it."""

    waits_for_client: bool = True
    age: int = 0
    fate: str = "open"

    def give_up(self) -> None:
        self.fate = "given up"

    def turn_away(self) -> None:
        self.fate = "turned away"


@pytest.fixture
def patience() -> Patience:
    return Patience(most=3, longest=2)


def came(patience: Patience, *callers: Caller) -> None:
    for caller in callers:
        patience.came(caller)


async def test_connection_is_given_up_when_it_was_waited_for_too_long(patience: Patience) -> None:
    caller = Caller()
    came(patience, caller)

    patience.look()
    after_one_look = caller.fate
    patience.look()

    assert (after_one_look, caller.fate) == ("open", "given up")


async def test_connection_is_not_waited_for_while_it_is_answered(patience: Patience) -> None:
    caller = Caller(waits_for_client=False)
    came(patience, caller)

    for _ in range(5):
        patience.look()
    caller.waits_for_client = True
    patience.look()

    assert (caller.fate, caller.age) == ("open", 1)


async def test_connection_that_waited_longest_makes_room(patience: Patience) -> None:
    old, busy, new = Caller(age=1), Caller(waits_for_client=False, age=9), Caller()
    came(patience, busy, new, old)

    came(patience, Caller())

    assert [caller.fate for caller in (busy, new, old)] == ["open", "open", "given up"]


async def test_connection_is_turned_away_when_all_others_are_answered(patience: Patience) -> None:
    others = [Caller(waits_for_client=False) for _ in range(3)]
    one_too_many = Caller()

    came(patience, *others, one_too_many)

    assert [caller.fate for caller in others] == ["open"] * 3
    assert one_too_many.fate == "turned away"


async def test_tenth_of_the_connections_makes_room_at_once() -> None:
    patience = Patience(most=100)
    callers = [Caller() for _ in range(101)]

    came(patience, *callers)

    assert [caller.fate for caller in callers] == ["given up"] * 10 + ["open"] * 91


async def test_connection_that_went_takes_no_room(patience: Patience) -> None:
    first, *others = [Caller() for _ in range(4)]
    came(patience, first, *others[:2])

    patience.went(first)
    came(patience, others[2])

    assert [caller.fate for caller in others] == ["open"] * 3
