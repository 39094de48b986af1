"""The data folder: made when it is missing, and locked by the one server that uses it."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poussetaches.core.errors import CannotOpenStore

log = logging.getLogger(__name__)


class DataFolder:
    """A folder that one process at a time works in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def database(self) -> Path:
        """Where the tasks are."""
        return self.path / "tasks.db"

    @property
    def reserve(self) -> Path:
        """The file that keeps room free for a full disk."""
        return self.path / "reserve"

    def lock(self) -> None:
        """Make the folder and take its lock, which ends with the process at the latest.

        Raises:
            CannotOpenStore: it cannot be made or written to, or another server has it.
        """
        try:
            # Tasks hold passwords and personal data: who else may look is for the owner to say.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise CannotOpenStore(
                f"the data folder {self.path} cannot be written to: {exc.strerror}; give it to "
                "the user that runs poussetaches, or name another with --data-dir"
            ) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise CannotOpenStore(
                f"the data folder {self.path} is in use by another server"
                f"{f' (process {owner})' if owner else ''}; stop it, or name another folder with "
                "--data-dir"
            ) from exc
        with suppress(OSError):  # on a full disk nobody is told who has it
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    @contextmanager
    def kept_from_servers(self) -> Iterator[bool]:
        """Let no server start in the folder, and write nothing; False when one runs already."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY)
        except FileNotFoundError:
            yield True  # no server has been here
            return
        except OSError:
            yield False  # this user cannot know
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        try:
            yield alone
        finally:
            os.close(descriptor)

    @contextmanager
    def address_file(self, address: str) -> Iterator[None]:
        """Keep the server's address in the file ``address`` within the block, for its clients."""
        path = self.path / "address"
        try:
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{address}\n")
        except OSError as exc:  # a full disk must not keep the server from starting
            log.warning("address not written", extra={"path": str(path), "error": exc.strerror})
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def unlock(self) -> None:
        """Let go of the folder. May be called twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
