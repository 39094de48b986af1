"""Descriptions of unexpected exceptions, without their own text, which may contain secrets."""

from __future__ import annotations

import traceback

_PACKAGE = __file__.removesuffix("core/defect.py")


def describe_defect(exc: BaseException) -> str:
    """Return the type of an exception and where in the package it was raised."""
    # SQLite's error names, such as SQLITE_CONSTRAINT_CHECK, say more than the type.
    kind = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
    for frame in reversed(traceback.extract_tb(exc.__traceback__)):
        if frame.filename.startswith(_PACKAGE):
            return f"{kind} in {frame.filename.removeprefix(_PACKAGE)}, line {frame.lineno}"
    return str(kind)


def stack_of(exc: BaseException) -> str:
    """Return the stack trace of an exception, without its text."""
    return "".join(traceback.format_tb(exc.__traceback__))
