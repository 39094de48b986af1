"""Tests of tasks while freezegun holds time still, first in a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.harness import PATIENCE, clean_environment

PREAMBLE = """
from freezegun import freeze_time
from poussetaches.testing import testing
from tests.application import make_tasks

tasks = make_tasks()


@tasks.task(name="double")
def double(number: int) -> int:
    return 2 * number


def run() -> None:
    with testing(tasks, "run") as box:
        pushed = double.push(21)
        double.options(delay=60).push(1)
        box.run_until_idle()
        assert pushed.result(timeout=0) == 42
        box.advance(minutes=2)
        assert [task.state for task in box.of(double)] == ["succeeded"] * 2


def record() -> None:
    with testing(tasks, "record") as box:
        double.push(1)
    assert len(box.pushed(double)) == 1
"""
FROZEN_FIRST = """
with freeze_time("2027-01-01 12:00:00+00:00"):
    {mode}()
{mode}()
with freeze_time("2020-01-01 12:00:00+00:00"):
    {mode}()
"""


@pytest.mark.parametrize("mode", ["run", "record"])
def test_tasks_can_be_tested_while_time_is_frozen_and_afterwards(mode: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PREAMBLE + FROZEN_FIRST.format(mode=mode)],
        env=clean_environment(),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
