"""Writing a whole file: it is there complete, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poussetaches.core.errors import CannotWriteFile


@contextmanager
def whole_file(path: Path, *, replace: bool) -> Iterator[Path]:
    """Have a file written under another name, beside its place, and then put there.

    Only its owner may read it: it holds what tasks hold.

    Raises:
        CannotWriteFile: it is there already, or cannot be written.
    """
    if path.exists() and not replace:
        raise CannotWriteFile(f"{path} is there already; name another file, or give --force")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            yield beside
            put_in_place(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as exc:
        raise CannotWriteFile(f"{path} cannot be written: {exc.strerror or exc}") from exc


def put_in_place(beside: Path, path: Path) -> None:
    """Give a file that is complete its name, for good."""
    _sync(beside)
    beside.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
