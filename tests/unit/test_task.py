from __future__ import annotations

import pytest

from poussetaches.core.cause import Cause
from poussetaches.core.moment import Moment, later
from poussetaches.core.queue import Lane
from poussetaches.core.retry import RetryPolicy
from poussetaches.core.task import (
    Bury,
    Complete,
    Outcome,
    Reason,
    RetryAt,
    Task,
    TaskState,
    buried,
    moved,
    next_move,
    put_back,
)
from tests.factories import NOW, FixedRandom, make_attempt, make_outcome, make_task

POLICY = RetryPolicy(max_attempts=3, min_backoff=10.0, multiplier=4.0, jitter=0.5)
TASK = make_task()
SECOND_TRY = make_task(attempt_count=1)
LAST_TRY = make_task(attempt_count=2)
AGING = RetryPolicy(max_attempts=3, min_backoff=10.0, max_age=60.0)
DEAD_ON = RetryPolicy(max_attempts=3, min_backoff=10.0, dead_on=(410, "3xx"))
DONE = Complete()
RETRY = RetryAt(later(NOW, 10.0))
REFUSED = Bury(Reason.REFUSED)
EXHAUSTED = Bury(Reason.EXHAUSTED)
TOO_OLD = Bury(Reason.TOO_OLD)
EXPIRED = Bury(Reason.EXPIRED)


def due(seconds_ago: float) -> Task:
    return make_task(due_at=later(NOW, -seconds_ago))


def expiring(seconds: float) -> Task:
    return make_task(expires_at=later(NOW, seconds))


@pytest.mark.parametrize(
    ("task", "outcome", "policy", "move"),
    [
        # 1. An expected status.
        pytest.param(TASK, make_outcome(200), POLICY, DONE, id="200"),
        pytest.param(TASK, make_outcome(299), POLICY, DONE, id="another of its class"),
        pytest.param(make_task(expected=(404,)), make_outcome(404), POLICY, DONE, id="404 named"),
        pytest.param(make_task(expected=(201,)), make_outcome(200), POLICY, RETRY, id="only 201"),
        pytest.param(LAST_TRY, make_outcome(200), POLICY, DONE, id="on the last attempt"),
        pytest.param(due(61), make_outcome(200), AGING, DONE, id="though too old"),
        pytest.param(expiring(-1), make_outcome(200), POLICY, DONE, id="though expired"),
        pytest.param(TASK, make_outcome(200, refused=True), POLICY, DONE, id="though refused"),
        pytest.param(
            make_task(expected=(410,)), make_outcome(410), DEAD_ON, DONE, id="though dead_on"
        ),
        # 2. Refused permanently.
        pytest.param(TASK, make_outcome(500, refused=True), POLICY, REFUSED, id="said no"),
        pytest.param(TASK, make_outcome(410), DEAD_ON, REFUSED, id="dead_on status"),
        pytest.param(TASK, make_outcome(302), DEAD_ON, REFUSED, id="dead_on class"),
        pytest.param(TASK, make_outcome(500), DEAD_ON, RETRY, id="not in dead_on"),
        pytest.param(LAST_TRY, make_outcome(410), DEAD_ON, REFUSED, id="before exhausted"),
        # 3. Failed.
        pytest.param(TASK, make_outcome(500), POLICY, RETRY, id="500"),
        pytest.param(TASK, make_outcome(302), POLICY, RETRY, id="redirect"),
        pytest.param(TASK, make_outcome(404), POLICY, RETRY, id="404"),
        pytest.param(TASK, make_outcome(), POLICY, RETRY, id="no answer"),
        pytest.param(TASK, make_outcome(cause=Cause.NOT_CONNECTED), POLICY, RETRY, id="not sent"),
        # A truncated body fails with any status, and proves no refusal.
        pytest.param(TASK, make_outcome(200, error="cut"), POLICY, RETRY, id="broken 200"),
        pytest.param(TASK, make_outcome(410, error="cut"), DEAD_ON, RETRY, id="broken dead_on"),
        pytest.param(
            TASK, make_outcome(500, error="cut", refused=True), POLICY, RETRY, id="broken refusal"
        ),
        pytest.param(TASK, make_outcome(200, truncated=True), POLICY, DONE, id="long 200"),
        pytest.param(
            SECOND_TRY, make_outcome(500), POLICY, RetryAt(later(NOW, 40.0)), id="second attempt"
        ),
        pytest.param(LAST_TRY, make_outcome(500), POLICY, EXHAUSTED, id="last attempt"),
        pytest.param(LAST_TRY, make_outcome(), POLICY, EXHAUSTED, id="no answer to the last"),
        pytest.param(
            LAST_TRY, make_outcome(503, retry_after=5.0), POLICY, EXHAUSTED, id="asked in vain"
        ),
        pytest.param(due(59), make_outcome(500), AGING, RETRY, id="young enough"),
        pytest.param(due(60), make_outcome(500), AGING, TOO_OLD, id="too old"),
        pytest.param(due(1e6), make_outcome(500), POLICY, RETRY, id="no limit of age"),
        pytest.param(expiring(10), make_outcome(500), POLICY, RETRY, id="just before expiry"),
        pytest.param(expiring(9.999), make_outcome(500), POLICY, EXPIRED, id="past expiry"),
        pytest.param(
            expiring(60),
            make_outcome(503, retry_after=61.0),
            POLICY,
            EXPIRED,
            id="past expiry, as asked",
        ),
        # Retry-After is the earliest: a longer backoff stands.
        pytest.param(
            TASK,
            make_outcome(503, retry_after=90.0),
            POLICY,
            RetryAt(later(NOW, 90.0)),
            id="asked to wait longer",
        ),
        pytest.param(
            TASK, make_outcome(503, retry_after=1.0), POLICY, RETRY, id="asked to wait less"
        ),
        pytest.param(
            TASK, make_outcome(429, retry_after=0.0), POLICY, RETRY, id="asked to wait not at all"
        ),
        pytest.param(
            TASK,
            make_outcome(503, retry_after=1e9),
            POLICY,
            RetryAt(later(NOW, 3600.0)),
            id="asked for too much",
        ),
    ],
)
def test_next_move(
    task: Task, outcome: Outcome, policy: RetryPolicy, move: Complete | RetryAt | Bury
) -> None:
    assert next_move(task, outcome, policy, now=NOW, random=FixedRandom(0.5)) == move


@pytest.mark.parametrize(
    ("share", "wait"),
    [
        pytest.param(0.0, 12.0, id="earliest"),
        pytest.param(0.5, 12.0, id="middle"),
        pytest.param(1.0, 15.0, id="latest"),
    ],
)
def test_jitter_never_goes_below_the_wait_asked_for(share: float, wait: float) -> None:
    outcome = make_outcome(503, retry_after=12.0)

    move = next_move(TASK, outcome, POLICY, now=NOW, random=FixedRandom(share))

    assert move == RetryAt(later(NOW, wait))


def test_age_counts_from_the_due_moment_of_the_round() -> None:
    task = make_task(created_at=Moment(0), run_at=later(NOW, -1.0), due_at=later(NOW, -59.0))

    move = next_move(task, make_outcome(500), AGING, now=NOW, random=FixedRandom(0.5))

    assert move == RETRY


@pytest.mark.parametrize(
    ("task", "policy", "wait"),
    [
        pytest.param(make_task(due_at=later(NOW, -3600)), AGING, 10.0, id="too old"),
        pytest.param(expiring(-1), POLICY, 10.0, id="expired"),
    ],
)
def test_clock_that_was_just_set_ahead_ends_no_task(
    task: Task, policy: RetryPolicy, wait: float
) -> None:
    moves = [
        next_move(
            task,
            make_outcome(500),
            policy,
            now=NOW,
            random=FixedRandom(0.5),
            confirmed=later(NOW, -behind),
        )
        for behind in (3600, 0)
    ]

    assert moves[0] == RetryAt(later(NOW, wait))
    assert isinstance(moves[1], Bury)


def test_policy_of_one_attempt_never_tries_again() -> None:
    policy = RetryPolicy(max_attempts=1)

    move = next_move(TASK, make_outcome(500), policy, now=NOW, random=FixedRandom(0.5))

    assert move == EXHAUSTED


def test_original_policy_makes_twelve_attempts() -> None:
    """The original's table gave eleven, one less than its author meant."""
    policy = RetryPolicy(max_backoff=None)
    moves = [
        next_move(
            make_task(attempt_count=count),
            make_outcome(500),
            policy,
            now=NOW,
            random=FixedRandom(0.5),
        )
        for count in range(12)
    ]

    assert [isinstance(move, RetryAt) for move in moves] == [True] * 11 + [False]


def test_lane_is_queue_and_origin() -> None:
    task = make_task(queue="mail", url="HTTPS://u:p@App.test/x?y")

    assert task.lane == Lane("mail", "https://app.test:443")


def test_lane_of_a_path_has_no_origin() -> None:
    assert make_task(url="/run?x").lane == Lane("default", "")


def test_lane_of_a_task_that_was_told_to_run_is_its_own() -> None:
    assert make_task(forced=True).lane == TASK.lane._replace(forced=True)


# What a move makes of a running task

RUNNING = make_task(state=TaskState.RUNNING, attempt_count=1, attempt_total=4, forced=True)
ANSWER = make_attempt(2, succeeded=True, status=200)


def test_attempt_that_succeeds_completes_its_task() -> None:
    task = moved(RUNNING, Complete(), ANSWER, now=NOW)

    assert (task.state, task.ended_at, task.reason) == (TaskState.SUCCEEDED, NOW, None)
    assert (task.attempt_count, task.attempt_total) == (2, 5)
    assert (task.last_status, task.last_error) == (200, None)


def test_attempt_that_fails_leaves_its_task_waiting_like_any_other() -> None:
    later_on = later(NOW, 60.0)

    task = moved(RUNNING, RetryAt(later_on), make_attempt(2), now=NOW)

    assert (task.state, task.run_at, task.forced) == (TaskState.WAITING, later_on, False)
    assert (task.attempt_count, task.attempt_total) == (2, 5)
    assert (task.last_status, task.last_error) == (500, "went wrong")


def test_attempt_that_was_the_last_buries_its_task() -> None:
    task = moved(RUNNING, Bury(Reason.EXHAUSTED), make_attempt(2), now=NOW)

    assert (task.state, task.reason, task.ended_at) == (TaskState.DEAD, Reason.EXHAUSTED, NOW)


def test_attempt_that_does_not_count_changes_nothing_but_the_error() -> None:
    task = put_back(RUNNING, "cannot connect", now=NOW)

    assert (task.state, task.run_at, task.forced) == (TaskState.WAITING, NOW, True)
    assert (task.attempt_count, task.last_error) == (1, "cannot connect")


def test_task_put_back_for_no_error_keeps_its_last_one() -> None:
    task = put_back(make_task(state=TaskState.RUNNING, last_error="oh"), None, now=NOW)

    assert (task.state, task.last_error) == (TaskState.WAITING, "oh")


def test_task_cancelled_while_it_ran_is_not_tried_again() -> None:
    running = make_task(state=TaskState.RUNNING, cancelled=True)

    failed = moved(running, RetryAt(NOW), None, now=NOW)
    not_counted = put_back(running, None, now=NOW)

    assert (failed.state, failed.reason) == (TaskState.DEAD, Reason.CANCELLED)
    assert not failed.cancelled
    assert not_counted == failed


def test_task_cancelled_while_it_ran_may_have_succeeded() -> None:
    running = make_task(state=TaskState.RUNNING, cancelled=True)

    task = moved(running, Complete(), ANSWER, now=NOW)

    assert (task.state, task.cancelled) == (TaskState.SUCCEEDED, False)


def test_buried_task_is_dead_for_its_reason() -> None:
    task = buried(make_task(), Reason.SUPERSEDED, now=NOW)

    assert (task.state, task.reason, task.ended_at) == (TaskState.DEAD, Reason.SUPERSEDED, NOW)


@pytest.mark.parametrize(
    ("task", "failing"),
    [
        pytest.param(make_task(), False, id="new"),
        pytest.param(make_task(attempt_count=1), True, id="waiting after a failure"),
        pytest.param(RUNNING, True, id="running after a failure"),
        pytest.param(make_task(attempt_count=0, attempt_total=3), False, id="of a new round"),
        pytest.param(make_task(attempt_count=1, ended_at=NOW), False, id="ended"),
    ],
)
def test_task_is_failing_between_a_failure_and_its_end(task: Task, failing: bool) -> None:
    assert task.is_failing is failing
