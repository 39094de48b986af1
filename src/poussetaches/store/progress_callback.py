"""The type of the functions that a long operation reports its progress to."""

from __future__ import annotations

from collections.abc import Callable

# Arguments: the current step, the amount done, and the total amount, None if it is unknown.
ProgressCallback = Callable[[str, int, int | None], None]
