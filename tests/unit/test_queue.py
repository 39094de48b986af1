from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.core.json_storage import decode
from poussetaches.core.queue import (
    OVERRIDES,
    Queue,
    QueueOverrides,
    QueueSettings,
    Retention,
    RetentionOverrides,
    TokenBucket,
    parse_rate,
    redeclared,
    total_of,
)
from poussetaches.core.queue_fields import QueueFields
from poussetaches.core.responses import QueueCounts
from poussetaches.core.retry import RetryOverrides, RetryPolicy

rates = st.floats(0.001, 1000)
bursts = st.integers(1, 1000)
starts = st.floats(0, 1e7)  # a monotonic clock may have run for months
steps = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50)), max_size=30)


@pytest.mark.parametrize(
    ("overrides", "before", "declared", "found"),
    [
        pytest.param({}, None, {"rate": 2.0}, {"rate": 2.0}, id="first"),
        pytest.param({"rate": 1.0}, None, {"rate": 2.0}, {"rate": 2.0}, id="first over another"),
        pytest.param({"rate": 1.0}, {"rate": 2.0}, {"rate": 2.0}, {"rate": 1.0}, id="same"),
        pytest.param({}, {"rate": 2.0}, {"rate": 2.0}, {}, id="same, reset by an operator"),
        pytest.param({"rate": 1.0}, {"rate": 2.0}, {"rate": 3.0}, {"rate": 3.0}, id="other"),
        pytest.param({"rate": 1.0}, {"rate": 2.0}, {}, {}, id="no longer declared"),
        pytest.param(
            {"rate": 1.0, "burst": 5}, {"rate": 2.0}, {}, {"burst": 5}, id="never declared"
        ),
        pytest.param(
            {"retry": {"jitter": 0.1, "max_attempts": 3}},
            {"retry": {"max_attempts": 3}},
            {"retry": {"dead_on": [410]}},
            {"retry": {"jitter": 0.1, "dead_on": [410]}},
            id="within retry",
        ),
        pytest.param(
            {"keep_dead": {"count": 1}}, {"keep_dead": {"count": 1}}, {}, {}, id="whole object"
        ),
    ],
)
def test_declaration_sets_what_it_names_when_it_is_another(
    overrides: dict[str, object],
    before: dict[str, object] | None,
    declared: dict[str, object],
    found: dict[str, object],
) -> None:
    queue = Queue(
        name="mail",
        overrides=msgspec.convert(overrides, QueueOverrides),
        declared=msgspec.convert(before, QueueOverrides | None),
        configured=True,
        paused=True,
    )

    after = redeclared(queue, msgspec.convert(declared, QueueOverrides))

    assert after.overrides == msgspec.convert(found, QueueOverrides)
    assert after.declared == msgspec.convert(declared, QueueOverrides)
    assert after.paused


@pytest.mark.parametrize(
    ("overrides", "before", "found"),
    [
        pytest.param(
            '{"rate":1.0,"window":[1.10]}',
            None,
            '{"burst":3,"rate":1.0,"window":[1.10]}',
            id="set",
        ),
        pytest.param(
            '{"rate":1.0,"window":[1.10]}',
            '{"window":[2]}',
            '{"burst":3,"rate":1.0}',
            id="declared",
        ),
        pytest.param(
            '{"retry":{"jitter":0.5,"spread":1,"until":2}}',
            '{"retry":{"jitter":0.1,"until":3}}',
            '{"burst":3,"retry":{"spread":1}}',
            id="within retry",
        ),
        pytest.param(
            '{"window":{"from":9}}', '{"window":"always"}', '{"burst":3}', id="another type"
        ),
        pytest.param('{"burst":99999999}', None, '{"burst":3}', id="beyond the limits"),
        pytest.param(
            '{"concurrency":99999999}', None, '{"burst":3,"concurrency":99999999}', id="kept"
        ),
    ],
)
def test_declaration_keeps_unknown_settings_that_no_declaration_named(
    overrides: str, before: str | None, found: str
) -> None:
    queue = Queue(
        name="mail",
        overrides=decode(OVERRIDES, overrides),
        declared=None if before is None else decode(OVERRIDES, before),
    )

    after = redeclared(queue, QueueOverrides(burst=3))

    assert after.overrides == decode(OVERRIDES, found)


def test_same_declaration_of_another_version_changes_nothing() -> None:
    declared = decode(OVERRIDES, '{"window":1}')
    queue = Queue(name="mail", overrides=QueueOverrides(burst=2), declared=declared)

    assert redeclared(queue, decode(OVERRIDES, '{"window":1}')) is queue
    assert redeclared(queue, QueueOverrides()) is not queue


def test_full_bucket_has_its_burst() -> None:
    assert TokenBucket.full(0.5, 3, now=10.0).available == 3


def test_token_taken_comes_back_at_the_rate() -> None:
    empty = TokenBucket.full(0.5, 1, now=10.0).taken(1)

    assert empty.available == 0
    assert empty.wait == 2.0
    assert empty.refilled(11.9).available == 0
    assert empty.refilled(12.0).available == 1


def test_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket.full(10.0, 2, now=0.0)

    assert bucket.refilled(1000.0).available == 2
    assert bucket.taken(-5).available == 2


def test_bucket_that_owes_tokens_has_none_until_they_are_paid() -> None:
    owing = TokenBucket.full(1.0, 1, now=0.0).taken(3)

    assert owing.available == 0
    assert owing.wait == 3.0
    assert owing.refilled(2.0).available == 0
    assert owing.refilled(3.0).available == 1


def test_bucket_that_has_a_token_waits_for_nothing() -> None:
    assert TokenBucket.full(1.0, 5, now=0.0).wait == 0.0


def test_clock_that_stands_still_gives_no_tokens() -> None:
    empty = TokenBucket.full(1000.0, 1, now=5.0).taken(1)

    assert empty.refilled(5.0) == empty
    assert empty.refilled(4.0).available == 0


@given(rates, bursts, starts, steps)
def test_no_span_has_more_than_rate_times_time_plus_burst(
    rate: float, burst: int, start: float, steps: list[tuple[float, int]]
) -> None:
    bucket = TokenBucket.full(rate, burst, start)
    now = start
    taken: list[tuple[float, int]] = []
    for step, wanted in steps:
        now += step
        bucket = bucket.refilled(now)
        count = min(wanted, bucket.available)
        bucket = bucket.taken(count)
        taken.append((now, count))

    for first, (begin, _) in enumerate(taken):
        for last in range(first, len(taken)):
            span = taken[last][0] - begin
            total = sum(count for _, count in taken[first : last + 1])
            assert total <= rate * span + burst + 1e-5, (first, last, span, taken)


@given(rates, bursts, starts, st.integers(1, 50))
def test_token_is_there_after_the_wait(rate: float, burst: int, start: float, count: int) -> None:
    """Otherwise, a loop that sleeps for the wait would spin."""
    bucket = TokenBucket.full(rate, burst, start).taken(burst + count)

    waited = bucket.refilled(start + bucket.wait)

    assert waited.available == 1, waited


@pytest.mark.parametrize("rate", [0.1, 1 / 3, 7.0], ids=str)
def test_bucket_pays_out_its_rate_over_a_long_time(rate: float) -> None:
    bucket = TokenBucket.full(rate, 1, 0.0).taken(1)
    now, count = 0.0, 0
    while now < 10_000 / rate:
        now += bucket.wait
        bucket = bucket.refilled(now).taken(1)
        count += 1

    assert count == pytest.approx(10_000, abs=2)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        pytest.param("2/s", 2.0, id="a second"),
        pytest.param("30/min", 0.5, id="a minute"),
        pytest.param("36/h", 0.01, id="an hour"),
        pytest.param("0.5/s", 0.5, id="a fraction"),
        pytest.param(".5/s", 0.5, id="a fraction without its 0"),
        pytest.param("1000000/s", 1e6, id="the most"),
        pytest.param("1000001/s", None, id="more than the most"),
        pytest.param("0.0036/h", 1e-6, id="the least"),
        pytest.param("0.0035/h", None, id="less than the least"),
        pytest.param("0/s", None, id="none"),
        pytest.param("2", None, id="no unit"),
        pytest.param("2/d", None, id="unknown unit"),
        pytest.param("-2/s", None, id="negative"),
        pytest.param("1e2/s", None, id="exponent"),
        pytest.param(" 2/s", None, id="space"),
        pytest.param("2/s\n", None, id="newline"),
        pytest.param("\u0662/s", None, id="another script's digit"),
        pytest.param("9" * 400 + "/s", None, id="more than a float holds"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_rate_is_a_number_and_a_unit_of_time(text: str, rate: float | None) -> None:
    assert parse_rate(text) == rate


def test_queue_takes_what_it_does_not_set_from_the_server() -> None:
    server = QueueSettings(rate=3.0, timeout=9.0, retry=RetryPolicy(max_attempts=7, jitter=0.1))
    overrides = QueueOverrides(
        rate=1.0, retry=RetryOverrides(max_attempts=2), keep_dead=RetentionOverrides(age=5.0)
    )

    settings = overrides.over(server)

    assert settings == QueueSettings(
        rate=1.0,
        timeout=9.0,
        retry=RetryPolicy(max_attempts=2, jitter=0.1),
        keep_dead=Retention(count=100_000, age=5.0),
    )


def test_queue_on_which_nothing_is_set_is_like_the_server() -> None:
    server = QueueSettings(rate=3.0, concurrency=9)

    assert QueueOverrides().over(server) == server


def test_only_what_is_set_is_stored() -> None:
    overrides = QueueOverrides(concurrency=2, retry=RetryOverrides(jitter=0.0))

    assert msgspec.json.encode(overrides) == b'{"concurrency":2,"retry":{"jitter":0.0}}'


@pytest.mark.parametrize(
    "text",
    [
        '{"rate": 0}',
        '{"burst": 0}',
        '{"concurrency": 0}',
        '{"concurrency": 10001}',
        '{"timeout": 0.05}',
        '{"timeout": 86401}',
        '{"retry": {"max_attempts": 0}}',
        '{"retry": {"jitter": 1.5}}',
        '{"retry": {"dead_on": ["6xx"]}}',
        '{"keep_dead": {"count": -1}}',
        '{"conurrency": 2}',
        '{"retry": {"attempts": 2}}',
    ],
)
def test_setting_that_is_not_allowed_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=QueueFields)


def test_counts_of_queues_add_up() -> None:
    counts = [QueueCounts(waiting=1, failing=1), QueueCounts(waiting=2, dead=3), QueueCounts()]

    assert total_of(counts) == QueueCounts(waiting=3, dead=3, failing=1)
