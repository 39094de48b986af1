"""Secrets are compared in constant time, everywhere: read from the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "poussetaches"

SECRET = re.compile(r"token|secret|password|signature|auth_key|credential", re.IGNORECASE)
# Comparisons that are not constant-time, and why that reveals nothing.
ALLOWED = {
    "values['read_token'] == values['api_token']",  # our own settings, when the server starts
    # Names of settings and headers, and the marks of handlers: no secrets themselves.
    "name == AUTH_KEY",
    "name in BY_SECRET_FILE",
    "name.lower() in secret_headers",
    "seq in self._tokens",
}


def comparisons(source: str) -> Iterator[str]:
    """Yield what code compares by the letter, one side of it being a secret by its name."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(each, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for each in node.ops):
            continue
        sides = [node.left, *node.comparators]
        is_told = any(isinstance(side, ast.Constant) for side in sides)
        if not is_told and any(SECRET.search(ast.unparse(side)) for side in sides):
            yield ast.unparse(node)


def test_no_secret_is_compared_by_the_letter() -> None:
    found = {
        comparison for path in SOURCE.rglob("*.py") for comparison in comparisons(path.read_text())
    }

    assert found == ALLOWED


@pytest.mark.parametrize(
    "source",
    ["given == self.api_token", "x.auth_key != y", "token in tokens", "a == headers['signature']"],
)
def test_comparison_by_the_letter_would_be_found(source: str) -> None:
    assert list(comparisons(source)) == [source]


def test_comparison_in_constant_time_is_none_by_the_letter() -> None:
    assert list(comparisons("hmac.compare_digest(token, self.api_token)")) == []
