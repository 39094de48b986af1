"""When reports of progress are sent, and what becomes of those that cannot be."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from poussetaches.client.current import CurrentTask
from poussetaches.client.errors import Conflict, NoAnswer
from poussetaches.client.progress import INTERVAL, ProgressReporter
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


def test_report_that_cannot_be_sent_is_logged_and_the_next_one_is_tried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried: list[ProgressReport] = []
    time = Time()

    def send(report: ProgressReport) -> None:
        tried.append(report)
        raise NoAnswer("it is away")

    reporter = ProgressReporter(send, clock=time)
    report_all(reporter, 1)
    time.now = INTERVAL
    report_all(reporter, 2)

    assert [report.done for report in tried] == [1, 2]
    assert caplog.text.count("progress was not reported: it is away") == 2


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


async def test_event_loop_is_not_blocked_while_a_report_is_sent() -> None:
    may_go_on = threading.Event()
    sent: list[tuple[float, int]] = []

    def send(report: ProgressReport) -> None:
        may_go_on.wait()
        sent.append((report.done, threading.get_ident()))

    reporter = ProgressReporter(send, clock=Time())
    report_all(reporter, 1, 2)
    assert sent == []
    assert reporter.is_pending
    may_go_on.set()
    await asyncio.to_thread(reporter.finish)

    assert [done for done, _ in sent][-1] == 2
    assert threading.get_ident() not in {thread for _, thread in sent}


@pytest.mark.parametrize(
    ("done", "total"), [(-1, None), (float("nan"), None), (1, float("inf")), (1, -2)]
)
def test_amount_that_is_no_amount_is_refused_where_it_is_given(
    done: float, total: float | None
) -> None:
    with pytest.raises(ValueError, match=r"progress: (done|total) is .* from 0 up"):
        current_of(ProgressReporter(None)).progress(done, total)


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
