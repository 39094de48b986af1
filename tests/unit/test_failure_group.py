from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.core.failure_group import (
    LONGEST_LINE,
    FailureGroup,
    common_error,
    common_path,
    first_line,
    group_of,
)
from poussetaches.core.task import Reason, Task, TaskState
from tests.factories import make_ended, make_task

UUID = "0190a6a8-7c3b-7cc0-8a2e-1f2d3c4b5a69"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        pytest.param("http://a.test/users/17/mail", "/users/*/mail", id="number"),
        pytest.param(f"http://a.test/orders/{UUID}", "/orders/*", id="UUID"),
        pytest.param("http://a.test/o/0190a6a87c3b7cc08a2e", "/o/*", id="long hex"),
        pytest.param("http://a.test/o/deadbeef", "/o/deadbeef", id="short hex is a word"),
        pytest.param("http://a.test/v2/x1", "/v2/x1", id="number within a word"),
        pytest.param("http://a.test/run?user=17#x", "/run", id="no query"),
        pytest.param("http://a.test", "/", id="no path"),
        pytest.param("/users/17", "/users/*", id="path alone"),
    ],
)
def test_path_has_a_star_for_what_varies(url: str, path: str) -> None:
    assert common_path(url) == path


@pytest.mark.parametrize(
    ("error", "common"),
    [
        pytest.param("no user 17 of 200", "no user * of *", id="numbers"),
        pytest.param("took 1.5 s at 12:30", "took * s at *", id="numbers with points"),
        pytest.param("KeyError: 'name'", "KeyError: *", id="quoted"),
        pytest.param('no "x" nor `y`', "no * nor *", id="other quotes"),
        pytest.param(f"no order {UUID}", "no order *", id="UUID"),
        pytest.param("object at 0x7f3a2c", "object at *", id="hex"),
        pytest.param("etag 9e107d9d372bb682", "etag *", id="long hex"),
        pytest.param("feedback defaced", "feedback defaced", id="words of hex letters"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_error_has_a_star_for_what_varies(error: str, common: str) -> None:
    assert common_error(error) == common


@pytest.mark.parametrize(
    ("body", "line"),
    [
        pytest.param(b"oh\nand more", "oh", id="first of several"),
        pytest.param(b"\n \r\n  oh  \n", "oh", id="first that says something"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"\x00\x01\x1b[31moh", "[31moh", id="without control characters"),
        pytest.param(b"\xffoh", "\ufffdoh", id="no UTF-8"),
        pytest.param(b"x" * 1000, "x" * LONGEST_LINE, id="long"),
        pytest.param("é".encode() * 5000, "é" * LONGEST_LINE, id="cut within a character"),
    ],
)
def test_first_line_of_an_answer_is_what_it_says(body: bytes, line: str) -> None:
    assert first_line(body) == line


@given(st.binary(max_size=5000))
def test_first_line_is_always_short_and_printable(body: bytes) -> None:
    line = first_line(body)

    assert len(line) <= LONGEST_LINE
    assert line.isprintable()


@given(st.text(max_size=300))
def test_error_that_was_made_common_stays_as_it_is(error: str) -> None:
    assert common_error(common_error(error)) == common_error(error)


def test_group_has_the_same_id_for_the_same_failure_and_no_other() -> None:
    group = group_of(queue="a", url="http://x/1", status=500, error="no user 1")
    alike = group_of(queue="a", url="http://x/2", status=500, error="no user 2")
    others = [
        group_of(queue="b", url="http://x/1", status=500, error="no user 1"),
        group_of(queue="a", url="http://x/y", status=500, error="no user 1"),
        group_of(queue="a", url="http://x/1", status=502, error="no user 1"),
        group_of(queue="a", url="http://x/1", status=None, error="no user 1"),
        group_of(queue="a", url="http://x/1", status=500, error="no disk"),
    ]

    assert group == alike == FailureGroup(queue="a", url_path="/*", status=500, error="no user *")
    assert group.id == alike.id
    assert len({group.id, *(other.id for other in others)}) == 6
    assert len(group.id) == 16


def test_only_the_first_line_of_an_error_counts() -> None:
    error = f"no route to {'x' * LONGEST_LINE}\nand a trace"

    group = group_of(queue="a", url="/", status=None, error=error)

    assert group.error == error[:LONGEST_LINE]


def test_text_that_cannot_be_encoded_has_an_id_all_the_same() -> None:
    group = group_of(queue="a", url="http://x/\udcff", status=None, error="\ud800")

    assert len(group.id) == 16


@pytest.mark.parametrize(
    ("last_error", "error"), [("oh 1", "oh *"), (None, "")], ids=["failing", "said nothing"]
)
def test_failing_task_is_in_a_group(last_error: str | None, error: str) -> None:
    group = make_task(attempt_count=1, last_status=500, last_error=last_error).failure_group

    assert group is not None
    assert group.error == error


def test_dead_task_without_an_attempt_is_grouped_by_its_reason() -> None:
    group = make_ended("dead", TaskState.DEAD, reason=Reason.EXPIRED).failure_group

    assert group is not None
    assert group.error == "expired"


@pytest.mark.parametrize(
    "task",
    [make_task(), make_ended("done", TaskState.SUCCEEDED, attempt_count=2)],
    ids=["new", "succeeded after a failure"],
)
def test_task_that_neither_fails_nor_died_is_in_no_group(task: Task) -> None:
    assert task.failure_group is None
