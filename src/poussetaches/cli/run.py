"""The command ``poussetaches run``: runs the server and an application together."""

from __future__ import annotations

import inspect
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from poussetaches.cli.app_address import base_url_of
from poussetaches.cli.app_command import split_words
from poussetaches.cli.serve import parameter
from poussetaches.cli.serve import signature as serve_signature
from poussetaches.core.errors import PousseTachesError, SettingsError
from poussetaches.core.target import parse_target
from poussetaches.settings import Settings, given_settings, settings_of

KEY_BYTES = 32


class CommandNotFound(PousseTachesError):
    """The program does not exist."""


class CommandNotExecutable(PousseTachesError):
    """The program exists and cannot be executed."""


def run(
    command: list[str], config: str | None = None, tasks: str | None = None, **flags: object
) -> int:
    """Run the server and an application together.

    The application starts when the server listens, with the server's address and a key in its
    environment. Deliveries start when it responds. If one of them ends, the other is stopped;
    the exit status is the application's. All options except --tasks are those of serve.
    """
    given = given_settings(flags, os.environ, None if config is None else Path(config))
    settings = settings_of(given)
    commands = [command, *([] if tasks is None else [words_of(tasks)])]
    programs = [with_program(each, os.environ) for each in commands]
    urls = [base_url_of(each, os.environ) for each in commands]
    settings = completed(settings, commands, urls)
    # Here, because help and errors of settings need none of the server's libraries.
    from poussetaches.cli.app_workers import workers_of  # noqa: PLC0415
    from poussetaches.server import serve  # noqa: PLC0415
    from poussetaches.server.app_processes import Application, Command, Commands  # noqa: PLC0415

    workers = [workers_of(each, os.environ) for each in commands]
    application = Application(
        Commands(*map(Command, programs, urls, workers)),
        settings,
        environ=os.environ,
        has_terminal=has_terminal(),
    )
    return serve(settings, application, any_port="port" not in given)


def words_of(tasks: str) -> list[str]:
    """Return the words of the command of --tasks, split as by a shell.

    Raises:
        SettingsError: the command is empty, or has a quote that does not end.
    """
    words = split_words(tasks, "--tasks")
    if not words:
        raise SettingsError("--tasks: the command is empty; give a command, or remove --tasks")
    return words


def completed(
    settings: Settings, commands: Sequence[Sequence[str]], urls: Sequence[str | None]
) -> Settings:
    """Return the settings with the base URL of the last command and a key.

    ``urls`` are the addresses at which the commands will listen, None if unknown.

    Raises:
        SettingsError: the base URL is needed and unknown, or both commands have the same address.
    """
    if len(urls) > 1 and urls[0] is not None and urls[0] == urls[1]:
        raise SettingsError(
            f"--tasks: both commands would listen at {urls[0]}; give them different ports"
        )
    security, queue = settings.security, settings.queue
    if queue.base_url is None:
        base_url = urls[-1]
        if base_url is None:
            raise SettingsError(
                f"base_url: the address of {shlex.join(commands[-1])!r} is unknown; give"
                " --base-url, such as http://127.0.0.1:8000"
            )
        # Without this, an application at a public address would not get the key.
        target = parse_target(base_url)
        queue = replace(queue, base_url=base_url)
        security = replace(security, key_target=(*security.key_target, target.host))
        if security.allow_target:
            allow_target = (*security.allow_target, target.authority)
            security = replace(security, allow_target=allow_target)
    if security.auth_key is None:
        security = replace(security, auth_key=secrets.token_urlsafe(KEY_BYTES))
    return replace(settings, security=security, queue=queue)


def with_program(command: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return a command with the path of its program: on PATH, or in the folder of our Python.

    Raises:
        CommandNotFound: the program does not exist.
        CommandNotExecutable: it cannot be executed.
    """
    name = command[0]
    found = find_program(name, environ, os.F_OK | os.X_OK)
    if found is not None:
        return [found, *command[1:]]
    found = find_program(name, environ, os.F_OK)
    if found is not None:
        raise CommandNotExecutable(
            f"no permission to execute {found!r}; make it executable (chmod +x), or"
            " start it with its interpreter, such as `python app.py`"
        )
    try:
        is_folder = "/" in name and Path(name).is_dir()
    except OSError as exc:
        raise CommandNotExecutable(
            f"cannot access {name!r}: {exc.strerror}; give the path of a program"
        ) from exc
    if is_folder:
        raise CommandNotExecutable(f"{name!r} is a folder; give a program")
    raise CommandNotFound(f"the program {name!r} is not found; check its name and PATH")


def find_program(name: str, environ: Mapping[str, str], mode: int) -> str | None:
    own = str(Path(sys.executable).parent)
    return shutil.which(name, mode, environ.get("PATH")) or shutil.which(name, mode, own)


def has_terminal() -> bool:
    """Return whether the process has a terminal, which sends SIGHUP when it is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def signature() -> inspect.Signature:
    """Return the parameters for typer: the command, --tasks, and the options of serve."""
    command = inspect.Parameter(
        "command",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[
            list[str],
            typer.Argument(
                metavar="COMMAND", help="Command that starts the application.", show_default=False
            ),
        ],
    )
    tasks = parameter(
        "tasks",
        str,
        typer.Option(
            "--tasks",
            metavar="COMMAND",
            help="Command that starts a second process of the application, for its tasks.",
            rich_help_panel="Application",
        ),
    )
    return serve_signature().replace(
        parameters=[command, tasks, *serve_signature().parameters.values()]
    )


run.__signature__ = signature()  # type: ignore[attr-defined]  # functions may have one
