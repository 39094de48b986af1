"""An application's settings from the environment: the receiver's keys, and the mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote

from poussetaches.core.errors import SettingsError
from poussetaches.core.signature import secret_bytes

PREFIX = "POUSSETACHES_"
URL = PREFIX + "URL"
API_TOKEN = PREFIX + "API_TOKEN"
AUTH_KEY = PREFIX + "AUTH_KEY"
SIGNING_SECRET = PREFIX + "SIGNING_SECRET"
PUBLIC_PREFIX = PREFIX + "PUBLIC_PREFIX"
MODE = PREFIX + "MODE"


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
