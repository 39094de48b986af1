"""The report of ``poussetaches verify``."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

EXAMPLES = 5  # shown for each kind of problem


class VerifyProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of problem: its description, how often it occurs, and some places."""

    what: str
    count: int = 1
    examples: list[str] = []


@dataclass(slots=True)
class VerifyReport:
    """Facts about a store and its contents, remarks, problems, and advice on them."""

    facts: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[VerifyProblem] = field(default_factory=list)
    advice: str | None = None

    def add(self, what: str, count: int = 1, examples: list[str] | None = None) -> None:
        self.problems.append(
            VerifyProblem(what=what, count=count, examples=(examples or [])[:EXAMPLES])
        )
