"""The command ``poussetaches serve``; its options are the settings."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poussetaches.cli.plain_command import PlainCommand
from poussetaches.settings import SETTINGS, Setting, load_settings
from poussetaches.settings.value_types import Boolean, env_text

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter


class ServeCommand(PlainCommand):
    """A command whose help shows its options by group."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None:
                group = getattr(option, "rich_help_panel", None) or "Options"
                groups.setdefault(group, []).append(record)
        groups["Secrets"] = [(setting.env, secret_help(setting)) for setting in SECRETS]
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


SECRETS = [setting for setting in SETTINGS if setting.secret]


def serve(config: str | None = None, **flags: object) -> int:
    """Run the server until it is stopped.

    Durations are in seconds, sizes in bytes. Flags take precedence over environment variables,
    and these over the configuration file.
    """
    settings = load_settings(flags, os.environ, None if config is None else Path(config))
    # Here, because help and errors of settings need none of the server's libraries.
    from poussetaches.server import serve as run  # noqa: PLC0415

    return run(settings)


def signature() -> inspect.Signature:
    """Return the options for typer: one for each setting that has a flag."""
    config = parameter(
        "config",
        str,
        typer.Option(
            "--config",
            metavar="PATH",
            help="TOML file with settings; its keys are the flags with underscores instead of"
            " dashes.  [env: POUSSETACHES_CONFIG]",
            rich_help_panel="Configuration",
        ),
    )
    return inspect.Signature(
        [config, *(setting_parameter(setting) for setting in SETTINGS if setting.flag)],
        return_annotation=int,
    )


def setting_parameter(setting: Setting) -> inspect.Parameter:
    flag, metavar = f"{setting.flag}", setting.type.metavar or None
    kind: type = str
    if isinstance(setting.type, Boolean):
        flag, kind = f"{flag}/--no-{flag[2:]}", bool
    elif setting.is_list:
        kind = list[str]
    return parameter(
        setting.name,
        kind,
        typer.Option(
            flag, metavar=metavar, help=setting_help(setting), rich_help_panel=setting.group.title
        ),
    )


def parameter(name: str, kind: type, option: object) -> inspect.Parameter:
    """Return an optional parameter; its value is None if the option was not given."""
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def setting_help(setting: Setting) -> str:
    repeated = " Repeatable." if setting.is_list else ""
    return f"{setting.help}{repeated}  [default: {env_text(setting.default)}; env: {setting.env}]"


def secret_help(setting: Setting) -> str:
    return f"{setting.help}  [no flag; or the path of a file in {setting.env}_FILE]"


serve.__signature__ = signature()  # type: ignore[attr-defined]  # functions may have one
