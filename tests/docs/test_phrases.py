"""No page, docstring, comment or message has a phrase of this module's lists.

The lists are for wording that readers stumble over. Extend them when you correct such a phrase.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.shell import PAGES, ROOT

# Regular expressions, matched as whole words in any case.
PHRASES = (
    "a bug of ours",
    "again and again",
    "all the same",
    "are told of",
    "and its like",
    "as ever",
    "as far as",
    "as it is to be",
    "as many as are allowed",
    "asked of",
    "became of",
    "but for",
    "comes? again",
    "comes? of it",
    "everybody",
    "for good",
    "for ever",
    "for want of",
    "goe?s? before",
    "heard of",
    "in company",
    "in one go",
    "in passing",
    "in the manner of",
    "in trouble",
    "in vain",
    "is only to be",
    "is said",
    "is spoken",
    "is told",
    "left alone",
    "left as it is",
    "let go",
    "made anew",
    "needs? it not",
    "nobody",
    "nobody's business",
    "none that",
    "of one's own",
    "of which",
    "on the spot",
    "on the wire",
    "ought to",
    "passe[sd] over",
    "seen? to it",
    "somebody",
    "stands? (for|in) (what|the path)",
    "stands? in (line|the way)",
    "takes? note",
    "those (that|who|whose|which)",
    "told apart",
    "tried again",
    "was not here after",
    "what becomes",
    "what came",
    "what follows",
    "what there is",
    "whatever",
    "whichever",
    "whoever",
)

# How no docstring begins. The standard verb is in the comment.
BEGINNINGS = (
    "Tell",  # Return, Return whether
    "Say",  # Return, Log
    "Have",  # the verb of the action itself
    "Let",  # Allow, or the verb of the action itself
    "Be",
    "Take note",  # Record
    "See to",  # Ensure
    "Look",  # Read, Search, Return
    "Go on",  # Continue
    "Keep quiet",  # Ignore
    "Keep aside",  # Store
    "Take over",  # Import, Migrate
)

SOURCE = ROOT / "src" / "poussetaches"

_PHRASE = re.compile(rf"\b({'|'.join(PHRASES)})\b", re.IGNORECASE)
_BEGINNING = re.compile(rf"({'|'.join(BEGINNINGS)})\b")
# The settings' help is the source's; names and quotations in backticks are not prose.
_NO_PROSE = re.compile(r"<!-- generated.*?<!-- end -->|```.*?```|`[^`\n]*`", re.DOTALL)


def modules() -> list[Path]:
    """Return the modules that are checked: of the source, the tests and the tools."""
    others = (ROOT / name for name in ("benchmarks", "examples", "tests", "tools"))
    return [
        path
        for folder in (SOURCE, *others)
        for path in sorted(folder.rglob("*.py"))
        if path != Path(__file__)
    ]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def texts(path: Path) -> list[str]:
    """Return the prose of a module. Strings outside the source are data, except docstrings."""
    prose = strings(parse(path)) if path.is_relative_to(SOURCE) else docstrings_of(path)
    return [*prose, *comments(path.read_text())]


def strings(tree: ast.Module) -> Iterator[str]:
    """Yield the strings of a module, docstrings included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def comments(source: str) -> Iterator[str]:
    """Yield the comments of a module, lines of one comment as one."""
    lines: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1:
            yield " ".join(lines)
            lines = []
        lines.append(token.string.lstrip("# "))
        last = token.start[0]
    yield " ".join(lines)


def docstrings(tree: ast.Module) -> list[str]:
    return [
        ast.get_docstring(node) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@cache
def docstrings_of(path: Path) -> list[str]:
    return docstrings(parse(path))


def phrases_in(text: str) -> list[str]:
    """Return the phrases of the list in a text, each with its surroundings."""
    text = " ".join(text.split())
    return [
        f"{match[0]!r} in {text[max(0, match.start() - 40) : match.end() + 40]!r}"
        for match in _PHRASE.finditer(text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_has_no_phrase_of_the_list(page: Path) -> None:
    assert phrases_in(_NO_PROSE.sub("", page.read_text())) == []


def test_module_has_no_phrase_of_the_list() -> None:
    found = {
        str(path.relative_to(ROOT)): [hit for text in texts(path) for hit in phrases_in(text)]
        for path in modules()
    }

    assert {path: hits for path, hits in found.items() if hits} == {}


def test_comment_of_a_statement_has_no_phrase_of_the_list() -> None:
    found = [
        hit
        for path in (SOURCE / "store" / "sql").glob("*.sql")
        for line in path.read_text().splitlines()
        if line.startswith("--")
        for hit in phrases_in(line)
    ]

    assert found == []


def test_no_docstring_has_a_beginning_of_the_list() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {docstring.splitlines()[0]}"
        for path in modules()
        for docstring in docstrings_of(path)
        if _BEGINNING.match(docstring)
    ]

    assert found == []
