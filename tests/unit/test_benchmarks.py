"""The pure parts of the benchmarks: what they count, compare and write must be right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.answers import Answer, Table
from benchmarks.bodies import batches, push_of
from benchmarks.goals import GOALS, REFERENCE_LOOP, REFERENCES, verdict
from benchmarks.limits import combined
from benchmarks.load import is_whole, request_of
from benchmarks.measuring import in_ms, markdown, percentile
from benchmarks.report import rewritten
from benchmarks.stacks import calls_of, part_of, shares

AS_FAST = {name: rate for name, (_, rate) in REFERENCES.items()}


@pytest.mark.parametrize(
    ("part", "expected"),
    [(0.0, 1), (0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (1.0, 100)],
)
def test_percentile_is_the_smallest_value_with_that_part_below_it(
    part: float, expected: int
) -> None:
    values = list(range(100, 0, -1))

    assert percentile(values, part) == expected


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.00123456, "1.235"), (0.0999, "99.900"), (1.234, "1,234")]
)
def test_long_times_have_no_digits_that_mean_nothing(seconds: float, expected: str) -> None:
    assert in_ms(seconds) == expected


def test_bar_in_a_cell_does_not_end_it() -> None:
    assert markdown(["a", "b"], [["x|y", "z"]]).splitlines()[-1] == "| x\\|y | z |"


def test_costs_of_parts_add_up_on_one_core() -> None:
    assert combined(100.0, 100.0) == pytest.approx(50.0)


@pytest.mark.parametrize(
    "missing", [1, 3, 20], ids=["a byte of the body", "the whole body", "a part of the head"]
)
def test_message_is_whole_only_with_its_last_byte(missing: int) -> None:
    message = b"HTTP/1.1 201 Created\r\ncontent-length: 3\r\n\r\nabc"

    assert is_whole(message)
    assert not is_whole(message[:-missing])


def test_request_says_how_long_its_body_is() -> None:
    request = request_of(b'{"url": "/"}')

    assert is_whole(request)
    assert not is_whole(request[:-1])


def test_batches_take_their_tasks_in_turn() -> None:
    first, second = push_of("http://a.test/"), push_of("http://b.test/")

    lines = [batch.splitlines() for batch in batches([first, second], 5, size=3)]

    assert lines == [[first, second, first], [second, first]]


def test_verdict_is_good_where_parts_are_as_fast_beside_the_loop() -> None:
    slow_machine = {name: rate / 3 for name, rate in AS_FAST.items()}

    assert "slower" not in verdict(AS_FAST, REFERENCE_LOOP)
    assert "slower" not in verdict(slow_machine, REFERENCE_LOOP * 3)


def test_verdict_names_the_part_that_is_slower_than_the_loop_explains() -> None:
    figures = {**AS_FAST, "bare_client": AS_FAST["bare_client"] / 1.5}

    said = verdict(figures, REFERENCE_LOOP)

    assert "bare pyreqwest 1.5 times" in said
    assert "bare uvicorn" not in said


def test_every_goal_is_met_by_what_was_wanted_and_missed_by_less() -> None:
    for goal in GOALS:
        worse = goal.least * 1.01 + 1e-9 if goal.is_most else goal.least * 0.99

        assert goal.row({goal.figure: goal.least})[-1] == "yes", goal
        assert goal.row({goal.figure: worse})[-1] == "no", goal


def test_goal_without_a_figure_is_named_as_not_measured() -> None:
    goal = replace(GOALS[0], figure="nothing")

    assert goal.row({})[2] == "not measured"


def test_report_replaces_what_is_between_its_markers_alone() -> None:
    page = (
        "# Title\n<!-- generated: verdict -->\nold\n<!-- end -->\nby hand\n"
        "<!-- generated: results -->\nold\n<!-- end -->\n"
    )
    answer = Answer(question="drain", tables=[Table("Draining", ["rate"], [["42"]])])

    text = rewritten(page, {"drain": answer}, {"drain": ["drain.svg"]})

    assert "old" not in text
    assert "by hand" in text
    assert "### Draining\n\n| rate |\n| --- |\n| 42 |" in text
    assert "(plots/drain.svg)" in text
    assert rewritten(text, {"drain": answer}, {"drain": ["drain.svg"]}) == text


def test_report_names_what_was_not_measured() -> None:
    page = "<!-- generated: goals -->\n<!-- end -->\n<!-- generated: results -->\n<!-- end -->\n"

    text = rewritten(page, {}, {})

    assert "`profile.py`: not measured." in text
    assert text.count("| not measured |") == len(GOALS)


SERVING = "thread (7): MainThread;main (poussetaches/cli/main.py:32);run (loop.c:20)"
STORING = "thread (8): store-writer_0;run (threading.py:9);write (poussetaches/store/many.py:3)"


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        (f"{SERVING}", "event loop: uvloop, asyncio"),
        (f"{SERVING};push (poussetaches/api/task_routes.py:1)", "API"),
        (
            f"{SERVING};push (poussetaches/api/task_routes.py:1);get (enum.py:5);memcpy (libc.so)",
            "API",
        ),
        (
            f"{SERVING};push (poussetaches/api/task_routes.py:1);decode (msgspec/_core.so)",
            "JSON: msgspec",
        ),
        (f"{SERVING};uv__write (stream.c:4);writev (libc.so.6)", "kernel: network, wake-ups"),
        (f"{STORING};sqlite3_step (libsqlite3.so.0)", "SQLite"),
        (
            f"{STORING};sqlite3_step (libsqlite3.so.0);fsync (libc.so.6)",
            "kernel: SQLite's files, waits for fsync included",
        ),
        (f"{STORING};read (poussetaches/store/many.py:9)", "store, its Python"),
        ("thread (9);0x7f (libm.so.6)", "rest"),
    ],
)
def test_sample_counts_for_the_innermost_part_that_has_a_name(stack: str, expected: str) -> None:
    assert part_of(stack.split(";")) == expected


def test_sample_of_a_thread_that_waits_counts_for_nothing() -> None:
    waiting = f"{STORING};PyThread_acquire_lock_timed (libpython3.11.so);0x1 (libc.so.6)"

    assert part_of(waiting.split(";")) is None
    assert shares([f"{SERVING} 3", f"{waiting} 50", f"{STORING} 1"]) == {
        "event loop: uvloop, asyncio": 0.75,
        "store, its Python": 0.25,
    }


def test_calls_of_the_kernel_are_read_with_and_without_errors() -> None:
    table = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 96.70    0.012345          12      1001       200 futex
  3.30    0.000421           4        99           pwrite64
------ ----------- ----------- --------- --------- ----------------
100.00    0.012766          11      1100       200 total
"""

    assert calls_of(table.splitlines()) == {"futex": 1001, "pwrite64": 99}
