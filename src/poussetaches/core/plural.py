"""``counted``: a number with its noun."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the singular or with an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
