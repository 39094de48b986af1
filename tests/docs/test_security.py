"""Every defence that docs/security.md speaks of has its test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()

# A file, and then tests of it until the next file.
_FILE_OR_TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)`|`(test_[a-z0-9_]+)`")


def named() -> list[tuple[str, str]]:
    """Return the tests that the page names, each with its file."""
    found, file = [], ""
    for line in PAGE.splitlines():
        if not line.startswith("| "):
            continue
        for match in _FILE_OR_TEST.finditer(line):
            file = match[1] or file
            if match[2]:
                found.append((file, match[2]))
    return found


def test_every_test_that_is_named_is_there() -> None:
    missing = [
        (file, test) for file, test in named() if f"def {test}(" not in (ROOT / file).read_text()
    ]

    assert len(named()) > 30
    assert missing == []


def test_every_defence_names_a_test() -> None:
    defended = PAGE.split("## What is defended")[1].split("## What is not defended")[0]
    rows = [line for line in defended.splitlines() if line.startswith("| ")]

    assert [row for row in rows if "`test_" not in row and row != "| defence | test |"] == []
