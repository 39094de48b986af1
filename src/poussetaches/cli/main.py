"""The command ``poussetaches``: its subcommands and their exit statuses."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from typer._click.exceptions import NoSuchOption

from poussetaches import __version__
from poussetaches.cli.backup import backup
from poussetaches.cli.check import check
from poussetaches.cli.export_import import export, import_
from poussetaches.cli.plain_command import PlainCommand, PlainGroup
from poussetaches.cli.run import CommandNotExecutable, CommandNotFound, run
from poussetaches.cli.serve import ServeCommand, serve
from poussetaches.cli.verify import verify
from poussetaches.core.errors import PousseTachesError, SettingsError
from poussetaches.settings import SETTINGS

USAGE_ERROR = 2
# The first matching class determines the exit status. 126 and 127 are those of a shell.
EXIT_STATUSES = (
    (SettingsError, USAGE_ERROR),
    (CommandNotExecutable, 126),
    (CommandNotFound, 127),
)
FAILURE = 1  # for all other errors

app = typer.Typer(
    cls=PlainGroup,
    help="A task queue that runs an application's background tasks by HTTP requests.",
    add_completion=False,
    # Rich takes longer to import than the server takes to start.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(cls=ServeCommand)(serve)
# The first word that is not an option begins the application's command, with or without `--`.
app.command(cls=ServeCommand, context_settings={"allow_interspersed_args": False})(run)
app.command(cls=PlainCommand)(check)
app.command(cls=PlainCommand)(verify)
app.command(cls=PlainCommand)(backup)
app.command(cls=PlainCommand)(export)
app.command("import", cls=PlainCommand)(import_)
COMMANDS = ("serve", "run", "check", "verify", "backup", "export", "import")


def main(args: list[str] | None = None) -> int:
    """Run a command line and return its exit status; an error is one line on stderr."""
    open_standard_files()
    try:
        status = app(args, prog_name="poussetaches", standalone_mode=False)
    except NoSuchOption as exc:
        message = secret_flag_error(exc.option_name) or usage_error(exc, args)
        return report_error(message, USAGE_ERROR)
    except typer.TyperException as exc:
        return report_error(usage_error(exc, args), USAGE_ERROR)
    except PousseTachesError as exc:
        matching = (status for kind, status in EXIT_STATUSES if isinstance(exc, kind))
        return report_error(str(exc), next(matching, FAILURE))
    return status if isinstance(status, int) else 0


def usage_error(exc: typer.TyperException, args: list[str] | None) -> str:
    """Return the message for an error that typer found in a command line."""
    command = getattr(getattr(exc, "ctx", None), "command_path", None) or called(args)
    what = exc.format_message().strip().rstrip(".")
    return f"{what[:1].lower()}{what[1:]}; see {command} --help"


def called(args: list[str] | None) -> str:
    """Return the command of a command line, for errors that typer does not connect with one."""
    name = next(iter(sys.argv[1:] if args is None else args), "")
    return f"poussetaches {name}" if name in COMMANDS else "poussetaches"


def secret_flag_error(option: str) -> str | None:
    """Return the message for an option that is named like a secret; None for any other."""
    for setting in SETTINGS:
        flag = "--" + setting.name.replace("_", "-")
        if setting.secret and option.replace("_", "-") in (flag, f"{flag}-file"):
            return (
                f"{option}: secrets have no option, because other users can read a process's"
                f" arguments; set {setting.env}, or {setting.env}_FILE to the path of a file"
            )
    return None


def open_standard_files() -> None:
    """Open /dev/null in place of closed standard files (``2>&-``).

    Otherwise the database could get one of their numbers, and the log would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(opened, "r" if number == 0 else "w", closefd=False))


def report_error(message: str, status: int) -> int:
    sys.stderr.write(f"poussetaches: {' '.join(message.splitlines())}\n")
    return status


def show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"poussetaches {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def show_help(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        sys.stderr.write(context.get_help() + "\n")
        raise typer.Exit(USAGE_ERROR)
