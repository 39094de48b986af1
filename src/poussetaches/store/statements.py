"""Loading of named SQL statements and of migrations from ``store/sql``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources

_BLOCK = re.compile(r"^-- (\w+): .*$", re.MULTILINE)


def load_statements(file: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Return the statements of a file by the names above them.

    ``{name_columns}`` is replaced by the list of columns called ``name``, ``{name_marks}`` by one
    question mark for each of them.
    """
    text = resources.files("poussetaches.store").joinpath("sql", file).read_text("utf-8")
    for name, listed in columns.items():
        marks = ", ".join("?" for _ in listed.split(","))
        text = text.replace(f"{{{name}_columns}}", listed).replace(f"{{{name}_marks}}", marks)
    pieces = _BLOCK.split(text)[1:]
    names, bodies = pieces[::2], pieces[1::2]
    return {name: body.strip() for name, body in zip(names, bodies, strict=True)}


def load_migrations(kind: str) -> list[tuple[int, str]]:
    """Return the migrations of a kind of store with their numbers, in order."""
    folder = resources.files("poussetaches.store").joinpath("sql", "migrations", kind)
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return [(int(entry.name.partition("_")[0]), entry.read_text("utf-8")) for entry in files]
