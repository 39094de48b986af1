from __future__ import annotations

import pytest

from poussetaches.store.pace import (
    LONGEST_REST,
    LOSS,
    LOSS_IN_A_ROW,
    QUICK_COMMIT,
    TOLERATED,
    WATCHED_COMMITS,
    Pace,
)


class Time:
    """A monotonic clock that stands still until it is advanced."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def pace(time: Time) -> Pace:
    return Pace(time)


def test_work_is_allowed_at_first(pace: Pace) -> None:
    assert pace.allows_work


def test_any_number_of_brief_pieces_is_allowed(pace: Pace) -> None:
    for _ in range(1000):
        pace.note_work(TOLERATED)

    assert pace.allows_work


def test_some_long_pieces_are_allowed_and_then_no_more(pace: Pace) -> None:
    allowed = []
    for _ in range(4):
        allowed.append(pace.allows_work)
        pace.note_work(TOLERATED + LOSS_IN_A_ROW * 0.4)

    assert allowed == [True, True, True, False]


def test_work_is_allowed_again_after_a_rest(pace: Pace, time: Time) -> None:
    pace.note_work(TOLERATED + LOSS_IN_A_ROW + 0.1)

    time.now += 0.09 / LOSS
    early = pace.allows_work
    time.now += 0.02 / LOSS

    assert (early, pace.allows_work) == (False, True)


def test_no_piece_forbids_work_for_longer_than_the_longest_rest(pace: Pace, time: Time) -> None:
    for _ in range(3):
        pace.note_work(3600.0)

    time.now += LONGEST_REST * 1.001

    assert pace.allows_work


def test_commits_are_allowed_after_some_quick_ones(pace: Pace) -> None:
    allowed = []
    for _ in range(WATCHED_COMMITS):
        allowed.append(pace.allows_commits)
        pace.note_commit(QUICK_COMMIT)

    assert allowed == [False] * WATCHED_COMMITS
    assert pace.allows_commits


def test_slow_commit_forbids_the_next_ones(pace: Pace) -> None:
    for _ in range(WATCHED_COMMITS):
        pace.note_commit(QUICK_COMMIT)

    pace.note_commit(QUICK_COMMIT * 2)
    allowed = []
    for _ in range(WATCHED_COMMITS):
        allowed.append(pace.allows_commits)
        pace.note_commit(QUICK_COMMIT)

    assert allowed == [False] * WATCHED_COMMITS
    assert pace.allows_commits
