"""What all processes that these tests start inherit."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def sighup_is_heard() -> Iterator[None]:
    """Undo what ``nohup`` does to the tests: an ignored signal stays ignored in every child."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
