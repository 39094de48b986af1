"""Opening a store when a system call fails."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poussetaches.core.errors import CannotOpenStore
from poussetaches.store import open_store
from poussetaches.store.folder import DataFolder
from tests.factories import NOW, seeded

MOST = 20  # descriptors that a store may need


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Allow this process only a few more open files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    fillers = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        with suppress(OSError):
            while True:
                fillers.append(os.dup(0))  # occupies the free numbers below the limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in fillers:
            os.close(descriptor)


async def test_store_without_enough_descriptors_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    said = []
    for count in range(MOST):
        try:
            with descriptors_left(count):
                folder.lock()
                store = await open_store(folder, now=lambda: NOW, random=seeded(), window=0.0)
        except CannotOpenStore as exc:
            said.append(str(exc))
        else:
            await store.close()
            break
        finally:
            folder.unlock()

    assert 0 < len(said) < MOST
    assert "Too many open files; raise the limit of open files" in said[0]
    assert {"Too many open files" in each or "cannot be opened" in each for each in said} == {True}
