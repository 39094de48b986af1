"""How much the tests try that could go on for ever: little, or with ``FUZZ=long`` a lot."""

from __future__ import annotations

import os

LONG = os.environ.get("FUZZ") == "long"


def examples(count: int) -> int:
    """Return how many examples hypothesis tries: 30 times as many with ``FUZZ=long``."""
    return 30 * count if LONG else count
