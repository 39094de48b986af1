"""Atomic writing of files: afterwards the file is complete, or it does not exist."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from poussetaches.core.errors import CannotWriteFile

PRIVATE_MODE = 0o600


@contextmanager
def atomic_file(path: Path, *, replace: bool) -> Iterator[Path]:
    """Yield an empty file to write; rename it to ``path`` once the block has ended without error.

    Only its owner may read it, since tasks hold personal data.

    Raises:
        CannotWriteFile: it exists already, or cannot be written.
    """
    _refuse_existing(path, replace=replace)
    try:
        with _temporary_folder(path) as folder:
            beside = folder / path.name
            os.close(open_private(beside, os.O_WRONLY | os.O_EXCL))
            yield beside
            _refuse_existing(path, replace=replace)
            rename_durably(beside, path)
    except OSError as exc:
        raise CannotWriteFile(f"{path} cannot be written: {exc.strerror or exc}") from exc


def rename_durably(beside: Path, path: Path) -> None:
    """Give a complete file its final name, durably."""
    descriptor = os.open(beside, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(path)
    sync_folder(path.parent)


def open_private(path: Path, flags: int) -> int:
    """Open or create a file and return its descriptor; only the owner can use a new file."""
    return os.open(path, flags | os.O_CREAT, PRIVATE_MODE)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, if the user may read it and the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def _refuse_existing(path: Path, *, replace: bool) -> None:
    if path.exists() and not replace:
        raise CannotWriteFile(f"{path} already exists; choose another file, or use --force")


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside a file, and delete it at the end.

    The folder is locked, so that the next writer can recognize and delete the folders of killed
    processes. A process id would not be enough, because ids repeat in containers.
    """
    prefix, suffix = f".{path.name}.", ".part"
    with suppress(OSError):  # the parent may be writable, but not readable
        for each in list(path.parent.iterdir()):
            if each.name.startswith(prefix) and each.name.endswith(suffix):
                _delete_if_abandoned(each)
    folder, descriptor = _locked_folder(path.parent, prefix, suffix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _locked_folder(parent: Path, prefix: str, suffix: str) -> tuple[Path, int]:
    while True:
        folder = Path(mkdtemp(prefix=prefix, suffix=suffix, dir=parent))
        descriptor = _locked(folder)
        if descriptor is not None:
            return folder, descriptor


def _locked(folder: Path) -> int | None:
    """Return a descriptor that locks a new folder; None if another writer is deleting it."""
    try:
        descriptor = _open_folder(folder)
    except FileNotFoundError:
        return None
    try:
        _lock(descriptor)
        is_ours = folder.exists()
    except BlockingIOError:
        is_ours = False
    except OSError:
        # The file system cannot lock folders, so no other writer can lock it to delete it.
        is_ours = True
    if is_ours:
        return descriptor
    os.close(descriptor)
    return None


def _delete_if_abandoned(folder: Path) -> None:
    with suppress(OSError):  # it is in use, or was deleted
        descriptor = _open_folder(folder)
        try:
            _lock(descriptor)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)


def _open_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _lock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
