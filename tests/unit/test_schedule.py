from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poussetaches.core.errors import InvalidSchedule
from poussetaches.core.moment import DAY, HOUR, MINUTE, SECOND, Moment, datetime_of, moment_of
from poussetaches.core.schedule import (
    DESCRIPTORS,
    MAX_RUNS,
    Misfire,
    Overlap,
    Schedule,
    as_seconds_first,
    check_expression,
    check_new_expression,
    declared_as_written,
    first_occurrence,
    latest_occurrence,
    missed_occurrences,
    next_occurrence,
    redeclared,
    redefined,
)
from poussetaches.core.schedule import occurrences as occurrences_of
from tests.factories import NOW, make_schedule, make_task

PARIS = "Europe/Paris"
# In 2026 Paris leaves 02:00 for 03:00 on 29 March, and returns from 03:00 to 02:00 on 25 October.
SPRING = datetime(2026, 3, 29, tzinfo=ZoneInfo(PARIS))
AUTUMN = datetime(2026, 10, 25, tzinfo=ZoneInfo(PARIS))


def utc(text: str) -> Moment:
    return moment_of(datetime.fromisoformat(text).replace(tzinfo=UTC))


def following(cron: str, after: Moment, timezone: str = "UTC") -> Moment | None:
    return next_occurrence(cron, anchor=Moment(0), after=after, timezone=timezone)


def occurrences(cron: str, day: datetime) -> list[str]:
    """Return the occurrences of a day as local times with their distance from UTC."""
    zone = day.tzinfo
    assert isinstance(zone, ZoneInfo)
    found = []
    end = moment_of(day + timedelta(days=1))
    at = following(cron, Moment(moment_of(day) - 1), zone.key)
    while at is not None and at < end:
        found.append(datetime_of(at).astimezone(zone).strftime("%H:%M%z"))
        at = following(cron, at, zone.key)
    return found


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        # NOW is Monday 2026-09-21 14:13:20.
        pytest.param("* * * * *", "2026-09-21 14:14:00", id="each minute"),
        pytest.param("*/5 * * * *", "2026-09-21 14:15:00", id="minute first of five fields"),
        pytest.param("0 3 * * *", "2026-09-22 03:00:00", id="daily"),
        pytest.param("0 3 1 * *", "2026-10-01 03:00:00", id="monthly"),
        pytest.param("0 3 * 2 *", "2027-02-01 03:00:00", id="month"),
        pytest.param("0 3 * FEB SUN", "2027-02-07 03:00:00", id="names"),
        pytest.param("0 3 * * 0", "2026-09-27 03:00:00", id="Sunday as 0"),
        pytest.param("0 3 * * 7", "2026-09-27 03:00:00", id="Sunday as 7"),
        pytest.param("0 3 29 2 *", "2028-02-29 03:00:00", id="leap day"),
        pytest.param("0 3 L * *", "2026-09-30 03:00:00", id="last day of the month"),
        pytest.param("*/5 * * * * *", "2026-09-21 14:13:25", id="second first of six fields"),
        pytest.param("20 13 14 * * *", "2026-09-22 14:13:20", id="now is not later than now"),
        pytest.param("@yearly", "2027-01-01 00:00:00", id="yearly"),
        pytest.param("@annually", "2027-01-01 00:00:00", id="annually"),
        pytest.param("@monthly", "2026-10-01 00:00:00", id="monthly descriptor"),
        pytest.param("@weekly", "2026-09-27 00:00:00", id="weekly"),
        pytest.param("@daily", "2026-09-22 00:00:00", id="daily descriptor"),
        pytest.param("@midnight", "2026-09-22 00:00:00", id="midnight"),
        pytest.param("@hourly", "2026-09-21 15:00:00", id="hourly"),
        pytest.param("  @hourly ", "2026-09-21 15:00:00", id="spaces around"),
    ],
)
def test_next_occurrence_of_an_expression(cron: str, expected: str) -> None:
    assert following(cron, NOW) == utc(expected)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        pytest.param("90s", 90, id="seconds"),
        pytest.param("1h30m", 5400, id="hours and minutes"),
        pytest.param("1h0m0s", 3600, id="as Go writes it"),
        pytest.param("1.5h", 5400, id="fraction"),
        pytest.param(".5m", 30, id="fraction without a whole part"),
        pytest.param("1.m", 60, id="fraction without digits"),
        pytest.param("2000ms", 2, id="milliseconds"),
        pytest.param("500ms500000us", 1, id="parts that add up to a second"),
        pytest.param("1000000µs", 1, id="microseconds"),
        pytest.param("1000000000ns", 1, id="nanoseconds"),
        pytest.param("87600h", 315_360_000, id="ten years"),
    ],
)
def test_every_counts_from_its_anchor(duration: str, seconds: int) -> None:
    cron = f"@every {duration}"

    first = next_occurrence(cron, anchor=NOW, after=NOW)

    assert first == NOW + seconds * SECOND
    assert next_occurrence(cron, anchor=NOW, after=Moment(first - 1)) == first
    assert next_occurrence(cron, anchor=NOW, after=first) == first + seconds * SECOND


@pytest.mark.parametrize("cron", ["@every 1h", "@hourly"])
def test_delay_moves_the_anchor_and_so_the_first_occurrence(cron: str) -> None:
    anchor = Moment(NOW + DAY)

    first = next_occurrence(cron, anchor=anchor, after=NOW)

    assert first is not None
    assert anchor < first <= anchor + HOUR


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        pytest.param("", "'' is not a schedule; write five fields", id="empty"),
        pytest.param("tomorrow", "write five fields (minute hour day month weekday)", id="word"),
        pytest.param("60 * * * *", "'60' is not a minute; write 0 to 59", id="field"),
        pytest.param("@noon", "'@noon' is not a schedule; the descriptors are @yearly", id="noon"),
        pytest.param("@every", "@every <duration>", id="every without a duration"),
        pytest.param("@every 5", "'5' is not a duration such as 90s or 1h30m", id="no unit"),
        pytest.param("@every 1h 30m", "is not a duration", id="space in a duration"),
        pytest.param("@every -1h", "is not a duration", id="negative duration"),
        pytest.param("@every 1d", "is not a duration", id="days"),
        pytest.param("@every 1.2.3s", "is not a duration", id="two dots"),
        pytest.param("@every 0s", "whole seconds, from 1 s to ten years, not 0s", id="no time"),
        pytest.param("@every 1500ms", "whole seconds", id="one and a half seconds"),
        pytest.param("@every 87601h", "to ten years", id="more than ten years"),
        pytest.param("* " * 101, "at most 200 characters", id="too long"),
    ],
)
def test_expression_is_refused_with_what_to_write(cron: str, message: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        check_expression(cron)

    assert message in str(caught.value)


@pytest.mark.parametrize("cron", ["*/90 * * * *", "0 */25 * * *", "0 0 30 2 *", "@noon"])
def test_new_expression_must_do_what_it_says(cron: str) -> None:
    with pytest.raises(InvalidSchedule):
        check_new_expression(cron)
    with pytest.raises(InvalidSchedule):
        first_occurrence(cron, after=NOW)


@pytest.mark.parametrize("cron", ["*/60 * * * *", "@daily", "@every 90m", "0 0 29 2 *"])
def test_new_expression_that_does_what_it_says_is_taken(cron: str) -> None:
    check_new_expression(cron)

    assert first_occurrence(cron, after=NOW) == next_occurrence(cron, anchor=NOW, after=NOW)


def test_stored_schedule_goes_on_though_it_could_not_be_made_anew() -> None:
    check_expression("*/90 * * * *")

    assert following("*/90 * * * *", NOW) == following("@hourly", NOW)


def test_expression_that_the_clock_always_skips_is_refused() -> None:
    with pytest.raises(InvalidSchedule, match=r"never matches in America/New_York within 50"):
        first_occurrence("*/5 2 8-14 3 */7", after=NOW, timezone="America/New_York")


@given(st.text("0123456789*/,-#LWSUNJAN@evryhoums. ", max_size=30))
def test_any_text_is_a_schedule_or_refused(cron: str) -> None:
    try:
        check_expression(cron)
    except InvalidSchedule:
        return
    found = following(cron, NOW)

    assert found is None or found > NOW


def test_expression_that_the_clock_always_skips_has_no_next_occurrence() -> None:
    assert following("*/5 2 8-14 3 */7", NOW, "America/New_York") is None


def test_next_occurrence_past_the_end_of_the_calendar_is_none() -> None:
    assert following("@yearly", utc("9999-06-01 00:00:00")) is None


def test_time_zone_says_when_a_day_begins() -> None:
    assert following("@daily", NOW, PARIS) == utc("2026-09-21 22:00:00")


@pytest.mark.parametrize(
    ("cron", "spring", "autumn"),
    [
        pytest.param("30 2 * * *", ["03:00+0200"], ["02:30+0200"], id="fixed time"),
        pytest.param("30 1 * * *", ["01:30+0100"], ["01:30+0200"], id="before the change"),
        pytest.param("30 3 * * *", ["03:30+0200"], ["03:30+0100"], id="after the change"),
        pytest.param(
            "0 1-3 * * *",
            # 02:00 was skipped, and comes at the jump, where 03:00 is as well.
            ["01:00+0100", "03:00+0200"],
            ["01:00+0200", "02:00+0200", "03:00+0100"],
            id="several fixed times",
        ),
        pytest.param(
            "0 */12 * * *", ["00:00+0100", "12:00+0200"], ["00:00+0200", "12:00+0100"], id="step"
        ),
    ],
)
def test_fixed_time_comes_once_on_both_days_of_the_change(
    cron: str, spring: list[str], autumn: list[str]
) -> None:
    assert occurrences(cron, SPRING) == spring
    assert occurrences(cron, AUTUMN) == autumn


@pytest.mark.parametrize("cron", ["0 * * * *", "*/15 * * * *", "*/20 2 * * *", "0 0 * * * *"])
def test_star_or_step_goes_by_elapsed_time(cron: str) -> None:
    """An hour that comes twice counts twice, and one that is skipped not at all."""
    hours_of_two = {"*/20 2 * * *"}
    per_hour = {"*/15 * * * *": 4, "*/20 2 * * *": 3}.get(cron, 1)

    spring, autumn = occurrences(cron, SPRING), occurrences(cron, AUTUMN)

    assert len(spring) == per_hour * (0 if cron in hours_of_two else 23), spring
    assert len(autumn) == per_hour * (2 if cron in hours_of_two else 25), autumn


def test_occurrence_is_later_even_within_the_hour_that_comes_twice() -> None:
    again = moment_of(datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=ZoneInfo(PARIS)))

    assert following("30 2 * * *", again, PARIS) == utc("2026-10-26 01:30:00")


def fields(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    stars = st.sampled_from(["*", "*", "*", "*/2", "*/7"])
    return stars | values | st.lists(values, min_size=1, max_size=3).map(",".join)


minutes = fields(st.integers(0, 59).map(str) | st.just("10-50/20"))
hours = fields(st.integers(0, 23).map(str) | st.just("1-4"))
days = fields(st.integers(1, 28).map(str))
weekdays = fields(st.integers(0, 7).map(str))
five = st.builds(" ".join, st.tuples(minutes, hours, days, st.just("*"), weekdays))
six = st.builds(" ".join, st.tuples(st.sampled_from(["0", "30", "59"]), five))
every = st.integers(1, 100_000).map("@every {}s".format)
zones = st.sampled_from(
    ["UTC", PARIS, "America/Havana", "Australia/Lord_Howe", "America/Sao_Paulo"]
)
# Half of the moments lie about a change of some zone, the rest anywhere.
changes = st.sampled_from(
    ["2026-03-29 01:00", "2026-10-25 01:00", "2026-11-01 05:00", "2018-02-18 02:00"]
)
about_changes = st.builds(
    lambda change, offset: Moment(utc(change) + offset),
    changes,
    st.integers(-5 * HOUR, 5 * HOUR) | st.integers(-300, 300).map(MINUTE.__mul__),
)
anywhere = st.integers(NOW - 5000 * DAY, NOW + 5000 * DAY).map(Moment)


@given(five | six | every, about_changes | anywhere, zones)
@example("0-59/7 0-23 * * *", utc("2026-10-25 01:09"), PARIS)
def test_occurrences_are_ever_later(cron: str, after: Moment, zone: str) -> None:
    found: list[Moment | None] = [after]
    while len(found) < 5 and found[-1] is not None:
        found.append(following(cron, found[-1], zone))

    moments = [moment for moment in found if moment is not None]
    assert all(earlier < later for earlier, later in pairwise(moments)), found


@given(five | six | every, about_changes | anywhere, zones, st.integers(0, 30), st.floats(0, 1))
@example("0-59/7 0-23 * * 0", utc("2026-11-01 02:57"), "America/Havana", 17, 0.5)
def test_latest_occurrence_is_the_last_one_going_forward(
    cron: str, anchor: Moment, zone: str, count: int, share: float
) -> None:
    missed: list[Moment] = []
    upcoming = next_occurrence(cron, anchor=anchor, after=anchor, timezone=zone)
    assert upcoming is not None
    first = upcoming
    while len(missed) <= count and upcoming is not None:
        missed.append(upcoming)
        upcoming = next_occurrence(cron, anchor=anchor, after=upcoming, timezone=zone)
    assert upcoming is not None
    now = Moment(missed[-1] + int(share * (upcoming - missed[-1] - 1)))
    schedule = make_schedule(cron=cron, anchor_at=anchor, next_run_at=first, timezone=zone)

    assert latest_occurrence(schedule, now=now) == missed[-1]


def test_schedule_that_is_not_due_has_no_latest_occurrence() -> None:
    schedule = make_schedule(next_run_at=NOW)

    assert latest_occurrence(schedule, now=Moment(NOW - 1)) is None


@pytest.mark.parametrize(
    ("cron", "latest"),
    [
        pytest.param("@every 1h", "2026-10-01 14:13:20", id="every"),
        pytest.param("@hourly", "2026-10-01 15:00:00", id="hourly"),
    ],
)
def test_long_absence_leaves_one_occurrence_to_catch_up_on(cron: str, latest: str) -> None:
    """The original fired every missed run in a burst."""
    first = next_occurrence(cron, anchor=NOW, after=NOW)
    schedule = make_schedule(cron=cron, anchor_at=NOW, next_run_at=first)

    assert latest_occurrence(schedule, now=utc("2026-10-01 15:10:00")) == utc(latest)


@pytest.mark.parametrize(
    ("original", "ours"),
    [
        pytest.param("*/5 * * * *", "*/5 * * * * *", id="five fields"),
        pytest.param("0 30 * * * ?", "0 30 * * * *", id="six fields"),
        pytest.param(" 0  30 * * ?", "0 30 * * * *", id="spaces"),
        pytest.param("@every 1h", "@every 1h", id="every"),
        pytest.param("@daily", "@daily", id="descriptor"),
    ],
)
def test_original_dialect_begins_with_seconds(original: str, ours: str) -> None:
    assert as_seconds_first(original) == ours
    check_expression(ours)


@pytest.mark.parametrize("cron", DESCRIPTORS)
def test_descriptor_is_the_same_as_its_fields(cron: str) -> None:
    assert following(cron, NOW) == following(DESCRIPTORS[cron], NOW)


def test_occurrences_come_one_after_the_other() -> None:
    found = occurrences_of("0 3 * * *", anchor=NOW, after=NOW, timezone=PARIS)

    assert list(islice(found, 3)) == [
        utc("2026-09-22 01:00:00"),
        utc("2026-09-23 01:00:00"),
        utc("2026-09-24 01:00:00"),
    ]


def test_occurrences_end_with_the_calendar() -> None:
    found = occurrences_of("0 0 1 1 *", anchor=NOW, after=utc("9997-06-01 00:00:00"))

    assert list(found) == [utc("9998-01-01 00:00:00"), utc("9999-01-01 00:00:00")]


@pytest.mark.parametrize("cron", ["@every 1h", "13 * * * *"])
def test_missed_occurrences_are_those_not_fired_yet(cron: str) -> None:
    first = next_occurrence(cron, anchor=Moment(NOW - 5 * HOUR), after=Moment(NOW - 3 * HOUR))
    schedule = make_schedule(cron=cron, anchor_at=Moment(NOW - 5 * HOUR), next_run_at=first)
    assert first is not None

    missed = missed_occurrences(schedule, now=NOW)

    expected = [Moment(first + number * HOUR) for number in range(3)]
    assert missed == [moment for moment in expected if moment <= NOW]
    assert len(missed) >= 2


def test_only_the_latest_hundred_missed_occurrences_are_found() -> None:
    anchor = utc("2025-12-31 23:59:00")
    first = utc("2026-01-01 00:00:00")
    schedule = make_schedule(cron="* * * * *", anchor_at=anchor, next_run_at=first)

    missed = missed_occurrences(schedule, now=NOW)

    assert (len(missed), missed[-1]) == (MAX_RUNS, utc("2026-09-21 14:13:00"))
    assert all(later - earlier == MINUTE for earlier, later in pairwise(missed))


def test_schedule_that_is_not_due_has_missed_nothing() -> None:
    assert missed_occurrences(make_schedule(next_run_at=Moment(NOW + 1)), now=NOW) == []


def test_new_schedule_is_taken_as_it_is() -> None:
    assert redefined(None, make_schedule()) == make_schedule()


def known_and_new(**changes: object) -> tuple[Schedule, Schedule]:
    """Return a schedule with a history, and how it is to be from now on."""
    known = make_schedule(
        next_run_at=Moment(NOW + 7),
        paused=True,
        last_fired_at=Moment(NOW - HOUR),
        last_task_id="run",
    )
    new = make_schedule(created_at=NOW, anchor_at=NOW, next_run_at=Moment(NOW + HOUR))
    return known, msgspec.structs.replace(new, **changes)


def test_schedule_declared_as_before_is_not_touched_whatever_was_changed_since() -> None:
    known, new = known_and_new()
    known = declared_as_written(known)
    changed = msgspec.structs.replace(known, cron="@every 2h", paused=True)

    assert redeclared(changed, declared_as_written(new)) is changed
    assert redeclared(known, declared_as_written(new)) is known


def test_schedule_declared_for_the_first_time_is_kept_but_for_the_declaration() -> None:
    known, new = known_and_new()

    found = redeclared(known, declared_as_written(new))

    assert found == declared_as_written(known)


def test_schedule_defined_as_it_is_already_is_not_touched() -> None:
    known, new = known_and_new(task=make_task("another template", created_at=Moment(0)))

    assert redefined(known, new) is known


@pytest.mark.parametrize(
    "changes",
    [
        {"task": make_task(url="http://other.test/")},
        {"misfire": Misfire.SKIP},
        {"misfire_grace": 5.0},
        {"overlap": Overlap.ALLOW},
        {"owner": "another"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_schedule_with_the_same_times_keeps_them(changes: dict[str, object]) -> None:
    known, new = known_and_new(**changes)

    found = redefined(known, new)

    assert found.definition == new.definition
    assert (found.anchor_at, found.next_run_at) == (known.anchor_at, known.next_run_at)
    assert (found.paused, found.last_fired_at) == (True, known.last_fired_at)
    assert (found.last_task_id, found.created_at) == ("run", known.created_at)


@pytest.mark.parametrize("changes", [{"cron": "@every 2h"}, {"timezone": PARIS}], ids=str)
def test_schedule_with_other_times_begins_anew_and_keeps_its_history(
    changes: dict[str, str],
) -> None:
    known, new = known_and_new(**changes)

    found = redefined(known, new)

    assert (found.anchor_at, found.next_run_at) == (new.anchor_at, new.next_run_at)
    assert (found.paused, found.last_fired_at) == (True, known.last_fired_at)


@pytest.mark.parametrize("cron", ["@every 2h", "*/5 * * * *"])
def test_other_times_begin_after_the_last_one_fired_though_the_clock_was_set_back(
    cron: str,
) -> None:
    known, new = known_and_new(cron=cron)
    fired_at = Moment(NOW + 20 * HOUR + 1)

    found = redefined(msgspec.structs.replace(known, last_fired_at=fired_at), new)

    assert found.last_fired_at == fired_at
    assert fired_at < found.next_run_at <= fired_at + 2 * HOUR
