"""How much the tests try that could go on for ever: little, or with ``FUZZ=long`` a lot."""

from __future__ import annotations

import os

LONG = os.environ.get("FUZZ") == "long"
