"""What looking through a store came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

EXAMPLES = 5  # shown of what is wrong alike

# Told what is being done, how much of it is done, and of how much; None is not known.
Progress = Callable[[str, int, int | None], None]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong: in which words, how often, and where, for some of it."""

    what: str
    count: int = 1
    examples: list[str] = []


@dataclass(slots=True)
class Report:
    """What a store is and holds (``facts``), what is worth knowing, and what is wrong."""

    facts: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    advice: str | None = None

    def add(self, what: str, count: int = 1, examples: list[str] | None = None) -> None:
        """Add a problem."""
        self.problems.append(Finding(what=what, count=count, examples=(examples or [])[:EXAMPLES]))
