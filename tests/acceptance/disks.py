"""Disks that can be full, unmounted or read-only, for servers in their own processes."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.harness import Server

MIB = 1024 * 1024
BLOCK = bytes(4096)
MOUNTING = (
    "these tests mount small file systems: run them as root, or as"
    " `unshare --map-root-user --mount make test`"
)


class SmallDisk:
    """A small file system in memory that a test can fill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data_dir = path / "data"
        self._filler = path / "filler"

    def fill(self, *, leaving: int = 0) -> None:
        """Leave no byte free, or only some."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while file.write(BLOCK):
                    pass
            except OSError as exc:
                if exc.errno != errno.ENOSPC:
                    raise
            file.truncate(file.tell() - leaving)

    def make_room(self) -> None:
        """Delete the file that fills the disk."""
        self._filler.unlink()


@contextmanager
def mounted(path: Path, *, size: int = 32 * MIB, options: str = "") -> Iterator[SmallDisk]:
    """Mount a disk at a folder, which is created or hidden by it."""
    path.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size},{options}", "tmpfs", path)
    try:
        yield SmallDisk(path)
    finally:
        # Lazily, because a server that a failed test left running may still use it.
        subprocess.run(["/bin/umount", "--lazy", path], check=True)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Mount a folder read-only."""
    _mount("--bind", path, path)
    try:
        _mount("-o", "remount,bind,ro", path)
        yield
    finally:
        subprocess.run(["/bin/umount", path], check=True)


@contextmanager
def unable_to_write(server: Server) -> Iterator[None]:
    """Make every write of a server to a file fail, as after a device error."""
    _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, most))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, most))


def content_of(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _mount(*arguments: str | os.PathLike[str]) -> None:
    ended = subprocess.run(["/bin/mount", *arguments], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, f"{ended.stderr.strip()}; {MOUNTING}"
