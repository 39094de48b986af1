"""A pytest plugin: prints the seconds that the tests of each folder took."""

from __future__ import annotations

from collections import defaultdict

import pytest


class SecondsByFolder:
    """Adds up the durations of set-up, call and teardown of each test."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a report, which may come from a worker process."""
        folder = report.nodeid.partition("::")[0].rpartition("/")[0]
        self._seconds[folder] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the sums, the largest first."""
        terminalreporter.section("seconds by folder")
        for folder, seconds in sorted(self._seconds.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{seconds:7.1f}  {folder}")
