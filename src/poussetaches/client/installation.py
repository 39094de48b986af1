"""The installed packages: a missing extra, and the original's package beside ours."""

from __future__ import annotations

import inspect
import sys
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from poussetaches.core.errors import PousseTachesError

# The modules of the extra `server`: what the server and the commands import.
SERVER_MODULES = (
    *("starlette", "uvloop", "psutil"),
    *("prometheus_client", "typer", "rich"),
)
INSTALL_SERVER = "pip install 'poussetaches-sidecar[server]'"


class MissingExtra(PousseTachesError, ImportError):
    """A package is missing that only the extra ``server`` installs."""


def check_server_modules(user: str) -> None:
    """Check that the extra ``server`` is installed, which a part of the package needs.

    Raises:
        MissingExtra: it is not.
    """
    for name in SERVER_MODULES:
        if find_spec(name) is None:
            raise MissingExtra(
                f"{user} needs the package {name}, which is not installed; run {INSTALL_SERVER}"
            )


@cache
def warn_of_original() -> None:
    """Warn once if the original's package is installed too."""
    problem = original_beside_ours()
    if problem is not None:
        warnings.warn(problem, RuntimeWarning, stacklevel=_levels_to_caller())


def _levels_to_caller() -> int:
    """Return the level of the first function outside this package, as seen by the caller."""
    package = str(Path(__file__).parents[1])
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level


def original_beside_ours() -> str | None:
    """Return a warning if the original's package is installed too, otherwise None."""
    if getattr(sys, "frozen", False):  # the executable has no other packages
        return None
    for folder in sys.path:
        # importlib.metadata would take 35 ms, a tenth of the server's start.
        for found in Path(folder).glob("poussetaches-*.dist-info"):
            version = found.name.removesuffix(".dist-info").partition("-")[2]
            return (
                f"the packages poussetaches {version} and poussetaches-sidecar are both installed,"
                " and both contain the module poussetaches; run pip uninstall poussetaches"
                " (poussetaches-sidecar contains the same client)"
            )
    return None
