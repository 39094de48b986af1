"""Type checkers find the errors in an application's use of the decorators."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FILE = Path("tests") / "types" / "expected_errors.py"
ROOT = Path(__file__).parents[1]
PATIENCE = 300  # seconds: without a cache it reads the whole package


def test_type_checker_finds_the_expected_errors() -> None:
    lines = (ROOT / FILE).read_text().splitlines()
    expected = {
        (number, kind)
        for number, line in enumerate(lines, start=1)
        if (found := re.search(r"# E: ([a-z, -]+)$", line))
        for kind in found[1].split(", ")
    }

    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(FILE)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=ROOT,
    )

    errors = re.findall(
        r"^\S+expected_errors\.py:(\d+): error: .*\[([a-z-]+)\]$", ran.stdout, re.M
    )
    assert {(int(number), kind) for number, kind in errors} == expected, ran.stdout + ran.stderr
