"""Names of tasks, and of what the server knows by a name."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import PurePath

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
        # Whoever imports the file, as a web server does, knows it by another name.
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        module = spec.name if spec else PurePath(file).stem if file else module
    return f"{module}.{function.__qualname__}".replace("<locals>.", "")


def place_of(function: Callable[..., object]) -> tuple[str, str]:
    return function.__module__, function.__qualname__
