"""An application's settings from the environment: the receiver's keys, and the mode."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from poussetaches.core.errors import SettingsError
from poussetaches.core.setting_names import APPLICATION, PREFIX, SECRETS, SERVER, similar_name
from poussetaches.core.signature import secret_bytes

URL = PREFIX + "URL"
API_TOKEN = PREFIX + "API_TOKEN"
AUTH_KEY = PREFIX + "AUTH_KEY"
SIGNING_SECRET = PREFIX + "SIGNING_SECRET"
PUBLIC_PREFIX = PREFIX + "PUBLIC_PREFIX"
MODE = PREFIX + "MODE"


VARIABLES = tuple(PREFIX + name for name in APPLICATION)
_SERVER_VARIABLES = frozenset(
    PREFIX + name for name in (*SERVER, *(name + "_FILE" for name in (*SERVER, *SECRETS)))
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keys:
    """Credentials that callers must send: the key and the signature, if they are configured."""

    auth_key: str | None = None
    signing_secrets: tuple[bytes, ...] = ()
    # The path that a proxy in front of the application removes; signatures cover it.
    public_prefix: str = ""
    # Clock for the age of signatures; None is the system clock.
    clock: Callable[[], float] | None = None


class Mode(StrEnum):
    """The destination of pushes: the server, or the handler itself."""

    PUSH = "push"
    IMMEDIATE = "immediate"


@cache
def warn_of_misspelt(name: str, where: str) -> None:
    """Log once that a name of a setting is unknown, with the most similar one."""
    similar = similar_name(name, VARIABLES)
    advice = f"did you mean {similar}?" if similar else f"the settings are {', '.join(VARIABLES)}"
    log.warning(
        "%s %s is not a setting of an application, and is ignored; %s", where, name, advice
    )


def check_variables(environ: Mapping[str, str]) -> None:
    """Log the names in an environment that look like misspelt settings, each once.

    Other unknown names may be of the server, or of a container's links to it.
    """
    for name in environ:
        if not name.startswith(PREFIX) or name in VARIABLES or name in _SERVER_VARIABLES:
            continue
        if similar_name(name, VARIABLES) is not None:
            warn_of_misspelt(name, "the environment variable")


def read_mode(text: str | None) -> Mode:
    """Return the configured mode; by default, pushes are sent to the server.

    Raises:
        SettingsError: the mode is unknown.
    """
    try:
        return Mode(text or Mode.PUSH)
    except ValueError:
        raise SettingsError(f"{MODE} is {text!r}; use 'push' or 'immediate'") from None


def read_secret(environ: Mapping[str, str], name: str) -> str | None:
    """Return a secret from the variable, or from the file that ``<name>_FILE`` names.

    Raises:
        SettingsError: both are set, or the file cannot be read.
    """
    text, path = environ.get(name), environ.get(name + "_FILE")
    if text and path:
        raise SettingsError(f"both {name} and {name}_FILE are set; remove one of them")
    if not path:
        return text or None
    try:
        # Editors and `echo` end a file with a newline.
        read = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as exc:
        raise SettingsError(
            f"environment {name}_FILE: cannot read {path!r}; give a readable text file"
        ) from exc
    return read or None


def read_signing_secrets(text: str | None) -> tuple[bytes, ...]:
    """Return the signing keys of a setting; of two, the new one first.

    Raises:
        SettingsError: the part after ``whsec_`` is not base64.
    """
    items = [item.strip() for item in (text or "").split(",")]
    try:
        return tuple(secret_bytes(item) for item in items if item)
    except ValueError as exc:
        raise SettingsError(f"{SIGNING_SECRET}: {exc}") from None


def read_public_prefix(text: str | None) -> str:
    """Return the path prefix that a proxy removes, without a slash at its end.

    Raises:
        SettingsError: it is not a path.
    """
    prefix = text or ""
    if prefix and (not prefix.startswith("/") or "?" in prefix or "#" in prefix):
        raise SettingsError(f"{PUBLIC_PREFIX} is {prefix!r}; use a path that starts with a slash")
    return unquote(prefix).rstrip("/")
