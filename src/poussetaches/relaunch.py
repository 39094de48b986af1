"""Command lines that start poussetaches again, with Python or with the executable.

In the executable of ``make binary``, the first process is PyInstaller's loader. It unpacks Python
and the libraries into a temporary folder, and starts the executable again as a child process,
which is the program (docs/decisions/0042-distribution.md).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

LAUNCHER = Path(__file__).parent / "server" / "launch.py"
LAUNCH = "_launch"  # the executable's argument for launch.py
SUBPROCESS = "_POUSSETACHES_SUBPROCESS"  # set in processes that the program started
# The loader's variables. They point to the unpacked files, which other programs must not use.
LOADER_PREFIX = "_PYI_"
LIBRARY_PATH = "LD_LIBRARY_PATH"
ORIGINAL_LIBRARY_PATH = "LD_LIBRARY_PATH_ORIG"

is_executable: bool = getattr(sys, "frozen", False)
_loader_variables: dict[str, str] = {}


def own_command(*words: str) -> list[str]:
    """Return the command line of ``poussetaches`` with some arguments."""
    return [sys.executable, *([] if is_executable else ["-m", "poussetaches"]), *words]


def launch_command(*words: str) -> list[str]:
    """Return the command line of ``launch.py`` with some arguments."""
    if is_executable:
        return [sys.executable, LAUNCH, *words]
    return [sys.executable, "-I", "-S", str(LAUNCHER), *words]


def own_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for these commands, which use the unpacked files."""
    if not _loader_variables:
        return dict(environ)
    library_path = environ.get(LIBRARY_PATH)
    original = {} if library_path is None else {ORIGINAL_LIBRARY_PATH: library_path}
    return {**environ, **original, **_loader_variables, SUBPROCESS: "1"}


def restore_environment(environ: MutableMapping[str, str]) -> bool:
    """Undo the loader's changes of the environment, for programs that are started later.

    Return whether this process is the loader's child; other processes were started by the program
    itself.
    """
    for name in [name for name in environ if name.startswith(LOADER_PREFIX)]:
        _loader_variables[name] = environ.pop(name)
    if LIBRARY_PATH in environ:
        _loader_variables[LIBRARY_PATH] = environ.pop(LIBRARY_PATH)
    original = environ.pop(ORIGINAL_LIBRARY_PATH, None)
    if original is not None:
        environ[LIBRARY_PATH] = original
    return environ.pop(SUBPROCESS, None) is None
