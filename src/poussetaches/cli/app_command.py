"""Finds the application server in a command, and reads the options that matter to ``run``."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NoReturn

from poussetaches.core.errors import SettingsError

Options = Mapping[str, str]  # an option's last value by its long name: {"bind": ":8000"}
Environ = Mapping[str, str]

ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z_0-9]*=.*", re.DOTALL)


@dataclass(frozen=True)
class ServerCommand:
    """A known server in a command, with its options and its environment."""

    program: str
    options: Options
    environ: Environ


@dataclass(frozen=True)
class Syntax:
    """The options of a server that are read; all others are skipped.

    argparse reads them as in most servers, so that both agree.
    """

    values: Sequence[str]  # the names of each option with a value, such as "-b --bind"
    flags: Sequence[str] = ()  # all short flags: they can be joined with an option, as in -Rb
    abbreviates: bool = True  # --bin is --bind for argparse and getopt, but not for click
    subcommand: str = ""  # required
    positional: str = ""  # optional

    def read(self, arguments: Sequence[str]) -> Options | None:
        """Return the options in the arguments; None if the server would reject them."""
        words = list(arguments)
        if self.subcommand:
            if self.subcommand not in words:
                return None
            words.remove(self.subcommand)
        try:
            found, _ = self._parser().parse_known_args(words)
        except _Refused:
            return None
        return {name: value for name, value in vars(found).items() if value is not None}

    def _parser(self) -> argparse.ArgumentParser:
        parser = _Parser(add_help=False, allow_abbrev=self.abbreviates)
        for names in self.values:
            parser.add_argument(*names.split())
        for names in self.flags:
            parser.add_argument(*names.split(), action="store_const", const="given")
        if self.positional:
            parser.add_argument(self.positional, nargs="?")
        return parser


class _Refused(Exception):
    """The arguments are invalid."""


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of exiting if the arguments are invalid."""

    def error(self, message: str) -> NoReturn:
        raise _Refused(message)


DJANGO = Syntax(
    ("--settings", "--pythonpath", "-v --verbosity"),
    flags=("-6 --ipv6", "--nothreading"),
    subcommand="runserver",
    positional="address",
)
SYNTAXES: Mapping[str, Syntax] = {
    "gunicorn": Syntax(
        (
            *("-b --bind", "-c --config", "--certfile"),
            *("-w --workers", "-k --worker-class", "--threads", "-t --timeout"),
        ),
        flags=("-D", "-R"),
    ),
    "uvicorn": Syntax(("--host", "--port", "--ssl-certfile", "--uds", "--fd"), abbreviates=False),
    "hypercorn": Syntax(("-b --bind", "-c --config", "--certfile"), flags=("-D",)),
    "granian": Syntax(("--host", "--port", "--ssl-certificate", "--uds"), abbreviates=False),
    "daphne": Syntax(
        ("-b --bind", "-p --port", "-u --unix-socket", "--fd", "-e --endpoint"),
    ),
    "waitress-serve": Syntax(("--listen", "--host", "--port", "--unix-socket", "--threads")),
    "fastapi": Syntax(("--host", "--port"), abbreviates=False),
    "flask": Syntax(
        ("-e --env-file", "-h --host", "-p --port", "--cert"),
        flags=("--without-threads",),
        abbreviates=False,
        subcommand="run",
    ),
    "manage.py": DJANGO,
    "django-admin": DJANGO,
}


def server_in(command: Sequence[str], environ: Environ) -> ServerCommand | None:
    """Return the first known server in a command; None if there is none, or it would not start.

    Words before its name, such as ``python -m``, ``uv run`` or ``env PORT=8000``, are skipped;
    assignments among them are added to the environment.

    Raises:
        SettingsError: the server cannot read its environment.
    """
    for index, word in enumerate(command):
        program = PurePath(word).name
        if program in SYNTAXES:
            assignments = filter(ASSIGNMENT.fullmatch, command[:index])
            environ = {**environ, **dict(each.split("=", 1) for each in assignments)}
            options = _options_of(program, command[index + 1 :], environ)
            return None if options is None else ServerCommand(program, options, environ)
    return None


def _options_of(program: str, arguments: Sequence[str], environ: Environ) -> Options | None:
    options = SYNTAXES[program].read(arguments)
    if program != "gunicorn" or options is None:
        return options
    name = "GUNICORN_CMD_ARGS"
    defaults = SYNTAXES[program].read(split_words(environ.get(name, ""), name))
    return None if defaults is None else {**defaults, **options}


def split_words(text: str, source: str) -> list[str]:
    """Return the words of a text, split as by a shell; ``source`` is named in the error.

    Raises:
        SettingsError: a quote does not end.
    """
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise SettingsError(
            f"{source}: {text!r} cannot be split into words: {exc}; check its quotes"
            " and backslashes"
        ) from None
