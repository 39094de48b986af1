"""Reports of progress: when they are sent, and how failures are handled."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from poussetaches.client.current_task import CurrentTask
from poussetaches.client.errors import Conflict, NoAnswer
from poussetaches.client.progress_reporter import FIRST_PAUSE, INTERVAL, ProgressReporter
from poussetaches.client.results import ProgressReport


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def report_all(reporter: ProgressReporter, *done: float) -> None:
    for amount in done:
        reporter.report(ProgressReport(amount))


def test_reports_within_a_second_are_one_and_the_last_is_sent_at_the_end() -> None:
    sent: list[ProgressReport] = []
    time = Time()
    reporter = ProgressReporter(sent.append, clock=time)

    report_all(reporter, 1, 2, 3)
    time.now = INTERVAL
    report_all(reporter, 4, 5, 6)
    assert [report.done for report in sent] == [1, 4]
    reporter.finish()
    reporter.finish()

    assert [report.done for report in sent] == [1, 4, 6]


@pytest.mark.parametrize(
    "error", [NoAnswer("it is away"), ValueError("it is away"), UnicodeError("it is away")]
)
def test_report_that_cannot_be_sent_is_logged_and_followed_by_a_pause(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[ProgressReport] = []
    time = Time()

    def send(report: ProgressReport) -> None:
        tried.append(report)
        time.now += 2  # as long as a server that hangs is waited for
        raise error

    reporter = ProgressReporter(send, clock=time)
    report_all(reporter, 1, 2, 3)
    time.now += FIRST_PAUSE - 0.1
    report_all(reporter, 4)
    time.now += 0.1
    report_all(reporter, 5, 6)
    time.now += 2 * FIRST_PAUSE - 0.1
    report_all(reporter, 7)
    reporter.finish()

    assert [report.done for report in tried] == [1, 5]
    assert caplog.text.count("it is away") == 2


def test_reports_go_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[ProgressReport] = []
    errors = [NoAnswer("it is away")]
    time = Time()

    def send(report: ProgressReport) -> None:
        if errors:
            raise errors.pop()
        sent.append(report)

    reporter = ProgressReporter(send, clock=time)
    report_all(reporter, 1)
    time.now = FIRST_PAUSE
    report_all(reporter, 2, 3)
    reporter.finish()

    assert [report.done for report in sent] == [2, 3]


def test_nothing_more_is_sent_once_the_attempt_is_over(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[ProgressReport] = []
    time = Time()

    def send(report: ProgressReport) -> None:
        tried.append(report)
        raise Conflict(409, code="attempt-over", title="Conflict", detail="")

    reporter = ProgressReporter(send, clock=time)
    with caplog.at_level(logging.WARNING):
        report_all(reporter, 1)
        time.now = INTERVAL
        report_all(reporter, 2)
        reporter.finish()

    assert [report.done for report in tried] == [1]
    assert caplog.text.count("no longer reported") == 1


async def test_event_loop_and_its_threads_are_not_needed_to_send_a_report() -> None:
    loop = asyncio.get_running_loop()
    may_go_on, is_released = threading.Event(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, is_released.wait)
    sent: list[tuple[float, int]] = []

    def send(report: ProgressReport) -> None:
        may_go_on.wait()
        sent.append((report.done, threading.get_ident()))

    reporter = ProgressReporter(send, clock=Time())
    report_all(reporter, 1, 2)
    assert sent == []
    may_go_on.set()
    await reporter.afinish()

    assert [done for done, _ in sent][-1] == 2
    assert threading.get_ident() not in {thread for _, thread in sent}
    is_released.set()
    await busy


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((-1,), r"done is -1; use a number from 0 to 2\*\*53"),
        ((float("nan"),), "done is nan"),
        ((1, float("inf")), "total is inf"),
        ((1, -2), "total is -2"),
        ((10**400,), "done is 1000"),
        ((True,), "done is True"),
        (("5",), "done is '5'"),
        ((None,), "done is None"),
        ((Decimal(1),), r"done is Decimal\('1'\)"),
        ((1, 2, 5), "note is 5; use a str"),
    ],
)
def test_what_is_no_progress_is_refused_where_it_is_given(
    given: tuple[Any, ...], error: str
) -> None:
    with pytest.raises(ValueError, match=f"progress: {error}"):
        current_of(ProgressReporter(None)).progress(*given)


def test_note_that_is_not_utf8_is_sent_with_replacements() -> None:
    sent: list[ProgressReport] = []

    current_of(ProgressReporter(sent.append)).progress(1, note=os.fsdecode(b"caf\xe9.csv"))

    assert sent == [ProgressReport(1, note="caf?.csv")]


def test_long_note_is_cut() -> None:
    sent: list[ProgressReport] = []

    current_of(ProgressReporter(sent.append)).progress(1, note="x" * 300)

    assert sent == [ProgressReport(1, note="x" * 200)]


def current_of(reporter: ProgressReporter) -> CurrentTask:
    return CurrentTask(
        id="task-1",
        name="app.send",
        queue="mail",
        attempt=1,
        round=1,
        request_id="0123456789ab",
        deadline=None,
        reporter=reporter,
    )
