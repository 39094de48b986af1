"""Reads the settings from flags, environment and file, which take precedence in this order."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from poussetaches.core.errors import SettingsError
from poussetaches.core.queue_fields import Count
from poussetaches.core.retry import TEN_YEARS
from poussetaches.core.setting_names import APPLICATION_ONLY, PREFIX, similar_name
from poussetaches.core.target import without_credentials
from poussetaches.settings.setting import Setting, grouped
from poussetaches.settings.table import SETTINGS, Settings
from poussetaches.settings.value_types import Integer, env_text

CONFIG = PREFIX + "CONFIG"
# The path of the file, and variables of applications, which may share the server's environment.
NOT_SETTINGS = frozenset({CONFIG, *(PREFIX + name for name in APPLICATION_ONLY)})
ALL_TASKS = Integer.within(Count).maximum
# In test mode hanging tests fail soon, and tests see all ended tasks.
TEST_DEFAULTS: Mapping[str, object] = {
    "timeout": 5.0,  # seconds
    "keep_succeeded_count": ALL_TASKS,
    "keep_succeeded_age": float(TEN_YEARS),
    "keep_dead_count": ALL_TASKS,
    "keep_dead_age": float(TEN_YEARS),
}
MAX_SHOWN = 100  # characters of an invalid value; an error is one line

# Variables that Docker links and Kubernetes set for a service that is named poussetaches.
INJECTED = re.compile(PREFIX + r"(SERVICE_HOST|SERVICE_PORT.*|PORT_[0-9]+_.*|NAME|ENV_.*)")
INJECTED_PORT = re.compile(r"[a-z]+://.*")  # POUSSETACHES_PORT=tcp://10.0.0.1:7991

BY_NAME = {setting.name: setting for setting in SETTINGS}
BY_ENV = {setting.env: setting for setting in SETTINGS}
BY_SECRET_FILE = {setting.env + "_FILE": setting for setting in SETTINGS if setting.secret}


class Given(NamedTuple):
    """A value as it was given, and its source in words."""

    raw: object
    source: str


def load_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], config: Path | None
) -> Settings:
    """Return the settings from flags, environment and file.

    ``flags`` has the names of the table; None and an empty list are flags that were not given.
    Without ``config``, the environment may name the file.

    Raises:
        SettingsError: a setting is unknown or invalid; one line names it and the reason.
    """
    return settings_of(given_settings(flags, environ, config))


def given_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], config: Path | None
) -> dict[str, Given]:
    """Return the settings that were given, by name, without defaults.

    Raises:
        SettingsError: a setting is unknown, given twice, or cannot be read; or a value is invalid,
            even if another source takes precedence.
    """
    given: dict[str, Given] = {}
    for source in (from_file(config, environ), from_environment(environ), from_flags(flags)):
        for name, overridden in given.items():
            if name in source:
                read(BY_NAME[name], overridden)
        given |= source
    return given


def settings_of(given: Mapping[str, Given]) -> Settings:
    """Return all settings: the given values, and defaults for the rest.

    Raises:
        SettingsError: a value is invalid, or conflicts with another.
    """
    values = {setting.name: setting.default for setting in SETTINGS}
    values |= {name: read(BY_NAME[name], entry) for name, entry in given.items()}
    check_together(values, given)
    if values["test_mode"]:
        values |= {name: value for name, value in TEST_DEFAULTS.items() if name not in given}
    return grouped(Settings(), values)


def from_flags(flags: Mapping[str, object]) -> dict[str, Given]:
    return {
        name: Given(raw, f"flag {BY_NAME[name].flag}")
        for name, raw in flags.items()
        if raw is not None and raw != []
    }


def from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    given: dict[str, Given] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or not text or name in NOT_SETTINGS:
            continue
        if is_injected(name, text):
            continue
        if name in BY_ENV:
            setting, entry = BY_ENV[name], Given(text, f"environment {name}")
        elif name in BY_SECRET_FILE:
            setting = BY_SECRET_FILE[name]
            entry = Given(read_secret(name, Path(text)), f"file {text} of environment {name}")
        else:
            raise SettingsError(
                f"environment {name} is not a setting;"
                f" {advice(name, [*BY_ENV, *BY_SECRET_FILE, CONFIG])}"
            )
        if setting.name in given:
            first = given[setting.name].source
            raise SettingsError(
                f"{setting.name}: given by {first} and by {name}; remove one of them"
            )
        given[setting.name] = entry
    return given


def is_injected(name: str, text: str) -> bool:
    """Return whether a variable comes from Docker or Kubernetes."""
    if name == PREFIX + "PORT":
        return INJECTED_PORT.fullmatch(text) is not None
    return INJECTED.fullmatch(name) is not None


def read_secret(variable: str, path: Path) -> str:
    """Return the text of a secret's file, without the newline that editors add."""
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as exc:
        raise SettingsError(
            f"environment {variable}: cannot read {quoted(str(path))} ({reason_of(exc)});"
            " give a readable text file"
        ) from exc


def from_file(config: Path | None, environ: Mapping[str, str]) -> dict[str, Given]:
    source = "flag --config"
    if config is None:
        source = f"environment {CONFIG}"
        config = Path(environ[CONFIG]) if environ.get(CONFIG) else None
    if config is None:
        return {}
    try:
        with config.open("rb") as file:
            table: dict[str, object] = tomllib.load(file)
    except (OSError, ValueError, RecursionError) as exc:
        raise SettingsError(
            f"{source}: cannot read {quoted(str(config))} ({reason_of(exc)});"
            " give a readable TOML file"
        ) from exc
    for name in table:
        if name not in BY_NAME:
            raise SettingsError(
                f"{config}: {quoted(name)} is not a setting; {advice(name, BY_NAME)}"
            )
    return {name: Given(raw, str(config)) for name, raw in table.items()}


def advice(name: str, known: Iterable[str]) -> str:
    """Return the advice for an unknown name: the known name that is most similar."""
    similar = similar_name(name, known)
    return f"did you mean {similar}?" if similar else "`poussetaches serve --help` lists them all"


def read(setting: Setting, given: Given) -> object:
    try:
        return setting.read(given.raw)
    except ValueError:
        value = "the secret" if setting.secret else quoted(_without_credentials(given.raw))
        # Not chained: the cause may quote a secret.
        raise SettingsError(
            f"{setting.name}: {value} from {given.source} is not valid; give {setting.allowed}"
        ) from None


def check_together(values: Mapping[str, object], given: Mapping[str, Given]) -> None:
    """Raise SettingsError if two valid settings conflict."""
    if values["uds"] is not None:
        for name in ("host", "port"):
            if name in given:
                raise SettingsError(
                    f"uds: {given['uds'].source} conflicts with {name} from {given[name].source};"
                    " remove one of them"
                )
    check_tokens(values, given)
    for prefix in ("", "original_"):
        check_backoff(prefix, values, given)


def check_tokens(values: Mapping[str, object], given: Mapping[str, Given]) -> None:
    if values["read_token"] is None:
        return
    source = given["read_token"].source
    if values["api_token"] is None:
        raise SettingsError(
            f"read_token: {source} requires an api_token, without which all clients have full"
            f" access; set {BY_NAME['api_token'].env}"
        )
    if values["read_token"] == values["api_token"]:
        raise SettingsError(
            f"read_token: {source} is the same as the api_token, which gives full access;"
            " give another"
        )


def check_backoff(prefix: str, values: Mapping[str, object], given: Mapping[str, Given]) -> None:
    shortest, longest = values[prefix + "min_backoff"], values[prefix + "max_backoff"]
    if isinstance(shortest, float) and isinstance(longest, float) and shortest > longest:
        raise SettingsError(
            f"{prefix}min_backoff: {env_text(shortest)} from"
            f" {source_of(prefix + 'min_backoff', given)} is greater than {prefix}max_backoff,"
            f" {env_text(longest)} from {source_of(prefix + 'max_backoff', given)};"
            " change one of them"
        )


def source_of(name: str, given: Mapping[str, Given]) -> str:
    return given[name].source if name in given else "the defaults"


def _without_credentials(raw: object) -> object:
    return without_credentials(raw) if isinstance(raw, str) else raw


def quoted(value: object) -> str:
    """Return a value as a Python literal, shortened to fit in an error."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def reason_of(exc: Exception) -> str:
    """Return the reason for an error of reading a file, in one line."""
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return " ".join(reason.split())
