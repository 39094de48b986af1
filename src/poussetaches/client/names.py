"""Names of tasks, and of what the server knows by a name."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from poussetaches.client.arguments import DefinitionError

TASK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def check_name(name: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(name):
        raise DefinitionError(
            f"{name!r} cannot be a name; give one of ASCII letters, digits, dots, dashes and"
            " underscores"
        )


def name_of(function: Callable[..., object]) -> str:
    module = function.__module__
    if module == "__main__":
        module = imported_name(sys.modules["__main__"]) or module
    return f"{module}.{function.__qualname__}".replace("<locals>.", "")


def imported_name(main: ModuleType) -> str | None:
    """Return the name under which other modules import the main module; None in a shell.

    A script has no package of its own (PEP 366), so its package is read from the folders: as far
    up as there is an ``__init__.py``.
    """
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is None:
        return None
    path = Path(file).absolute()
    packages: list[str] = []
    folder = path.parent
    while (folder / "__init__.py").is_file():
        packages.insert(0, folder.name)
        folder = folder.parent
    return ".".join([*packages, path.stem])


def place_of(function: Callable[..., object]) -> tuple[str, str]:
    return function.__module__, function.__qualname__
