"""The number of random examples in tests: few, or many with ``FUZZ=long``."""

from __future__ import annotations

import os

LONG = os.environ.get("FUZZ") == "long"


def examples(count: int) -> int:
    """Return the number of hypothesis's examples: 30 times as many with ``FUZZ=long``."""
    return 30 * count if LONG else count
