"""Settings that all processes of these tests inherit."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

# `make test-binary` builds the executable and names it here; other runs have none.
collect_ignore = [] if "BINARY" in os.environ else ["test_binary.py"]


@pytest.fixture(scope="session", autouse=True)
def sighup_is_heard() -> Iterator[None]:
    """Restore SIGHUP if the tests run under ``nohup``: children inherit ignored signals."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
