"""The command ``poussetaches run``: the server and an application, started and ended together."""

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
    """There is no such program."""


class CommandNotExecutable(PousseTachesError):
    """The program is there, and cannot be executed."""


def run(
    command: list[str], config: str | None = None, tasks: str | None = None, **flags: object
) -> int:
    """Run the server and an application together.

    The application is started once the server listens, and told its address and a key by its
    environment. Tasks are delivered when it answers. The end of either ends both; the exit
    status is the application's. All options but --tasks are those of serve.
    """
    given = given_settings(flags, os.environ, None if config is None else Path(config))
    settings = settings_of(given)
    commands = [command, *([] if tasks is None else [words_of(tasks)])]
    programs = [with_program(each, os.environ) for each in commands]
    urls = [base_url_of(each, os.environ) for each in commands]
    settings = completed(settings, commands, urls)
    # Here, because refusing a setting and showing the help need none of the server's libraries.
    from poussetaches.cli.app_workers import workers_of  # noqa: PLC0415
    from poussetaches.server import serve  # noqa: PLC0415
    from poussetaches.server.application import Application, Command, Commands  # noqa: PLC0415

    workers = [workers_of(each, os.environ) for each in commands]
    application = Application(
        Commands(*map(Command, programs, urls, workers)),
        settings,
        environ=os.environ,
        has_terminal=has_terminal(),
    )
    return serve(settings, application, any_port="port" not in given)


def words_of(tasks: str) -> list[str]:
    """Return the words of the command of --tasks, as a shell divides it.

    Raises:
        SettingsError: it has none, or a quote that does not end.
    """
    words = split_words(tasks, "--tasks")
    if not words:
        raise SettingsError("--tasks: the command is empty; give one, or leave --tasks out")
    return words


def completed(
    settings: Settings, commands: Sequence[Sequence[str]], urls: Sequence[str | None]
) -> Settings:
    """Return the settings, completed by the base URL of the last command and a key.

    ``urls`` are the addresses at which the commands listen, None if unknown.

    Raises:
        SettingsError: the base URL is needed and unknown, or both commands have the same address.
    """
    if len(urls) > 1 and urls[0] is not None and urls[0] == urls[1]:
        raise SettingsError(
            f"--tasks: both commands would listen at {urls[0]}; give them a port each"
        )
    security, queue = settings.security, settings.queue
    if queue.base_url is None:
        base_url = urls[-1]
        if base_url is None:
            raise SettingsError(
                f"base_url: cannot tell at which address {shlex.join(commands[-1])!r} will listen;"
                " give --base-url, such as http://127.0.0.1:8000"
            )
        # An address of ours that is public would not get the key otherwise.
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
    """Return a command with the path of its program: on PATH, or beside our own Python.

    Raises:
        CommandNotFound: there is none.
        CommandNotExecutable: there is one that cannot be executed.
    """
    name = command[0]
    found = find_program(name, environ, os.F_OK | os.X_OK)
    if found is not None:
        return [found, *command[1:]]
    found = find_program(name, environ, os.F_OK)
    if found is not None:
        raise CommandNotExecutable(
            f"no permission to execute {found!r}, which is to be run; make it executable"
            " (chmod +x), or put its interpreter in front of it"
        )
    try:
        is_folder = "/" in name and Path(name).is_dir()
    except OSError as exc:
        raise CommandNotExecutable(
            f"cannot reach {name!r}, which is to be run: {exc.strerror}; give a program's path"
        ) from exc
    if is_folder:
        raise CommandNotExecutable(f"{name!r}, which is to be run, is a folder; give a program")
    raise CommandNotFound(f"cannot find the program {name!r}, which is to be run")


def find_program(name: str, environ: Mapping[str, str], mode: int) -> str | None:
    own = str(Path(sys.executable).parent)
    return shutil.which(name, mode, environ.get("PATH")) or shutil.which(name, mode, own)


def has_terminal() -> bool:
    """Tell whether we belong to a terminal, whose end is told by SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def signature() -> inspect.Signature:
    """Return the options as typer reads them: those of serve, and our own."""
    command = inspect.Parameter(
        "command",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[
            list[str],
            typer.Argument(metavar="COMMAND", help="Starts the application.", show_default=False),
        ],
    )
    tasks = parameter(
        "tasks",
        str,
        typer.Option(
            "--tasks",
            metavar="COMMAND",
            help="Starts a second process of the application, which tasks are delivered to.",
            rich_help_panel="Application",
        ),
    )
    return serve_signature().replace(
        parameters=[command, tasks, *serve_signature().parameters.values()]
    )


run.__signature__ = signature()  # type: ignore[attr-defined]  # functions may carry one
