"""Names of tasks, queues, schedules and applications."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from poussetaches.client.arguments import DefinitionError
from poussetaches.client.handler_function import unwrap


class NameRule(NamedTuple):
    """The names that something can have, and the words for them."""

    pattern: re.Pattern[str]
    words: str


TASK_NAME = NameRule(
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}"),
    "at most 200 ASCII letters, digits, dots, dashes and underscores, and start with a letter,"
    " a digit or an underscore",
)
SERVER_NAME = NameRule(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"),
    "at most 100 ASCII letters, digits, dots, dashes and underscores, and start with a letter or"
    " a digit",
)


def check_name(subject: str, name: object, rule: NameRule) -> None:
    """Check the name of a task, a queue, a schedule or an application.

    Raises:
        DefinitionError: it is not a string, or not allowed; the error names the subject.
    """
    if not isinstance(name, str) or not rule.pattern.fullmatch(name):
        raise DefinitionError(f"{subject}: {name!r} is not a valid name; use {rule.words}")


@dataclass(frozen=True)
class Source:
    """The definition of a function: its name, and the import of its module that executed it."""

    name: str
    spec: ModuleSpec | None

    def is_reloaded_by(self, later: Source) -> bool:
        """Return whether a later definition replaces this one because its module was reloaded.

        Each import or reload of a module gives it a new spec. The same spec means that the module
        was executed once and made two functions of one name, in a loop or in a factory. In an
        interactive session, which has no spec, defining a function again replaces it.
        """
        if self.name != later.name:
            return False
        return later.spec is not self.spec or (later.spec is None and is_interactive())


def is_interactive() -> bool:
    return not hasattr(sys.modules["__main__"], "__file__")


def name_of(function: Callable[..., object]) -> str:
    """Return the name of a function's tasks, ``module.function``.

    Raises:
        DefinitionError: it has no name of its own, or is not a function.
    """
    given: object = function  # for applications without a type checker
    if not callable(given):
        raise DefinitionError(
            f"{given!r} cannot be a task; decorate a function with @tasks.task, or with options,"
            ' as in @tasks.task(queue="mail")'
        )
    if not hasattr(function, "__qualname__"):
        raise DefinitionError(f"{function!r} has no name; pass name=")
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


def source_of(function: Callable[..., object]) -> Source:
    function = unwrap(function)
    module = sys.modules.get(function.__module__)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return Source(f"{function.__module__}.{name}", getattr(module, "__spec__", None))
