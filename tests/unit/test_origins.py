from __future__ import annotations

import pytest

from poussetaches.engine.origins import ALL_SLOTS, SLOW_PROBE, Origins

APP = "http://app.test:5000"
OTHER = "http://other.test:80"
REFUSED = "cannot connect: Connection refused"


def held_at(now: float, *, hold_for: float = 3600.0) -> Origins:
    """Return origins after one of them refused a connection."""
    origins = Origins(hold_for=hold_for)
    origins.refused(APP, REFUSED, now)
    return origins


def release(origins: Origins, now: float) -> None:
    """Probe with success."""
    assert origins.begin_probes(now) == [APP]
    origins.probed(APP, None, now)


def test_origin_that_never_refused_has_all_slots() -> None:
    origins = Origins(hold_for=3600)

    assert origins.slots(APP) == ALL_SLOTS
    assert not origins.is_held(APP)
    assert origins.next_probe_at() is None


def test_refusal_holds_that_origin_alone() -> None:
    origins = held_at(100.0)

    assert origins.held() == {APP: REFUSED}
    assert not origins.is_held(OTHER)


def test_only_the_first_of_many_refusals_begins_a_hold() -> None:
    origins = Origins(hold_for=3600)

    assert [origins.refused(APP, REFUSED, now) for now in (1.0, 1.1, 1.2)] == [True, False, False]
    assert origins.next_probe_at() == 2.0


def test_probes_come_after_1_2_4_and_at_most_30_seconds() -> None:
    origins = held_at(0.0)
    waits, now = [], 0.0

    for _ in range(8):
        probe_at = origins.next_probe_at()
        assert probe_at is not None
        waits.append(probe_at - now)
        now = probe_at
        origins.begin_probes(now)
        origins.probed(APP, REFUSED, now)

    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_probe_under_way_is_not_begun_again() -> None:
    origins = held_at(0.0)

    assert origins.begin_probes(0.999) == []
    assert origins.begin_probes(1.0) == [APP]
    assert origins.begin_probes(50.0) == []
    assert origins.next_probe_at() is None


def test_released_origin_has_one_slot_doubled_by_each_answer() -> None:
    origins = held_at(0.0)
    release(origins, 1.0)
    slots = [origins.slots(APP)]

    for _ in range(4):
        origins.answered(APP)
        slots.append(origins.slots(APP))

    assert slots == [1, 2, 4, 8, 16]


def test_origin_that_answered_often_enough_is_like_any_other() -> None:
    origins = held_at(0.0)
    release(origins, 1.0)

    for _ in range(10):
        origins.answered(APP)

    assert origins.slots(APP) == ALL_SLOTS


def test_answer_to_an_earlier_attempt_does_not_end_a_hold() -> None:
    origins = held_at(0.0)

    origins.answered(APP)

    assert origins.is_held(APP)


def test_tasks_are_charged_from_the_end_of_hold_for() -> None:
    origins = held_at(100.0, hold_for=60)

    assert origins.charges_at(APP) == 160.0
    assert origins.charged_error(APP, 159.999) is None
    assert origins.charged_error(APP, 160.0) == REFUSED
    assert origins.charged_error(OTHER, 160.0) is None


def test_successful_probe_alone_does_not_begin_a_new_absence() -> None:
    origins = held_at(100.0, hold_for=60)
    release(origins, 101.0)

    origins.refused(APP, REFUSED, 102.0)

    assert origins.charges_at(APP) == 160.0


def test_answer_begins_a_new_absence() -> None:
    origins = held_at(100.0, hold_for=60)
    release(origins, 101.0)
    origins.answered(APP)

    origins.refused(APP, REFUSED, 150.0)

    assert origins.charges_at(APP) == 210.0
    assert origins.next_probe_at() == 151.0


def test_answer_to_an_earlier_attempt_begins_a_new_absence_with_the_next_probe() -> None:
    origins = held_at(100.0, hold_for=60)
    origins.answered(APP)

    assert origins.charges_at(APP) is None

    origins.begin_probes(150.0)
    origins.probed(APP, REFUSED, 150.0)

    assert origins.charges_at(APP) == 210.0


def test_nobody_is_charged_while_the_origin_is_not_held() -> None:
    origins = held_at(100.0, hold_for=60)
    release(origins, 101.0)

    assert origins.charged_error(APP, 1000.0) is None


def test_error_shown_is_that_of_the_last_probe() -> None:
    origins = held_at(0.0)
    origins.begin_probes(1.0)

    origins.probed(APP, "no connection within 10 s", 1.0)

    assert origins.held() == {APP: "no connection within 10 s"}


@pytest.mark.parametrize("resolved", [True, False])
def test_name_is_remembered_as_real_once_it_was_resolved(resolved: bool) -> None:
    origins = Origins(hold_for=3600)

    if resolved:
        origins.resolved(APP)

    assert origins.was_resolved(APP) is resolved


def test_origin_that_nobody_sends_to_any_more_is_forgotten() -> None:
    origins = held_at(100.0)
    origins.refused(OTHER, REFUSED, 100.0)
    origins.resolved(APP)

    origins.forget_all_but({OTHER})

    assert origins.held() == {OTHER: REFUSED}
    assert not origins.was_resolved(APP)


def test_origin_is_not_forgotten_while_it_is_probed() -> None:
    origins = held_at(100.0)
    assert origins.begin_probes(101.0) == [APP]

    origins.forget_all_but(set())

    origins.probed(APP, None, 101.0)
    assert not origins.is_held(APP)


def test_attempts_on_the_wire_take_the_slots_of_an_origin_that_was_away() -> None:
    origins = held_at(0.0)
    release(origins, 1.0)
    origins.started(APP)
    free = [origins.slots(APP) - origins.in_flight(APP)]

    origins.answered(APP)
    free.append(origins.slots(APP) - origins.in_flight(APP))
    origins.ended(APP)
    free.append(origins.slots(APP) - origins.in_flight(APP))

    assert free == [0, 1, 2]
    assert origins.in_flight(APP) == 0


def test_attempts_take_nothing_from_an_origin_that_was_never_away() -> None:
    origins = Origins(hold_for=3600)

    origins.started(APP)

    assert (origins.slots(APP), origins.in_flight(APP)) == (ALL_SLOTS, 1)


def test_origin_is_told_of_once_when_it_has_a_slot_again() -> None:
    origins = held_at(0.0)
    assert origins.take_opened() == []

    release(origins, 1.0)
    assert origins.take_opened() == [APP]
    assert origins.take_opened() == []

    origins.started(APP)
    origins.answered(APP)
    assert origins.take_opened() == [APP]

    origins.started(APP)
    origins.ended(APP)
    assert origins.take_opened() == [APP]


def test_end_of_an_attempt_opens_nothing_where_a_slot_was_free() -> None:
    origins = Origins(hold_for=3600)
    origins.started(APP)

    origins.ended(APP)

    assert origins.take_opened() == []


def held_many(origins: Origins, *names: str, now: float, took: float = 0.0) -> None:
    """Hold origins whose connection attempts took so long."""
    for name in names:
        origins.refused(name, REFUSED, now, took=took)


def test_probes_are_limited_and_whoever_waits_longest_is_first() -> None:
    origins = Origins(hold_for=3600, max_probes=2)
    held_many(origins, "late", now=1.0)
    held_many(origins, "early", now=0.0)
    held_many(origins, "later", now=2.0)

    assert origins.begin_probes(10.0) == ["early", "late"]
    assert origins.begin_probes(10.0) == []
    assert origins.next_probe_at() is None

    origins.probed("late", REFUSED, 11.0)
    assert origins.next_probe_at() == 3.0
    assert origins.begin_probes(11.0) == ["later"]


def test_silent_origins_leave_probes_to_the_others() -> None:
    origins = Origins(hold_for=3600, max_probes=4)
    silent = [f"silent {number}" for number in range(100)]
    held_many(origins, *silent, now=0.0, took=SLOW_PROBE)
    held_many(origins, APP, now=1.0)

    assert origins.begin_probes(10.0) == [*silent[:3], APP]
    origins.probed(APP, None, 10.0)

    # None of the silent ones can begin, though they are due.
    assert origins.begin_probes(10.0) == []
    assert origins.next_probe_at() is None
    origins.probed(silent[0], REFUSED, 20.0, took=10.0)
    assert origins.begin_probes(20.0) == [silent[3]]


@pytest.mark.parametrize("took", [0.0, SLOW_PROBE])
def test_origin_is_as_silent_as_its_last_probe(took: float) -> None:
    origins = Origins(hold_for=3600, max_probes=4)
    held_many(origins, APP, now=0.0, took=SLOW_PROBE)
    origins.begin_probes(1.0)
    origins.probed(APP, REFUSED, 1.0, took=took)
    held_many(origins, *(f"silent {number}" for number in range(3)), now=0.0, took=SLOW_PROBE)
    assert len(origins.begin_probes(2.0)) == 3

    assert (origins.begin_probes(10.0) == [APP]) is (took == 0.0)


def test_probe_that_was_not_made_changes_nothing_but_its_time() -> None:
    origins = held_at(0.0)
    origins.begin_probes(1.0)

    origins.not_probed(APP, 1.0)

    assert origins.held() == {APP: REFUSED}
    assert origins.next_probe_at() == 2.0
    assert origins.begin_probes(2.0) == [APP]
