"""The server's address and credentials, from arguments or the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import msgspec

from poussetaches.client.environment import API_TOKEN, URL, check_variables, read_secret
from poussetaches.core.defaults import HOST, PORT
from poussetaches.core.errors import SettingsError
from poussetaches.core.target import without_credentials

DEFAULT_URL = f"http://{HOST}:{PORT}"
PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"[!-~]+")
_TOKEN = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # as in headers


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A server. ``prefix`` precedes its paths; ``socket`` is the path of a Unix socket."""

    scheme: str
    host: str
    port: int
    prefix: str
    token: str | None
    socket: str | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port, as in URLs."""
        return f"{self.scheme}://{self.authority}"

    @property
    def shown_url(self) -> str:
        """The server's URL, for messages."""
        return f"unix:{self.socket}" if self.socket else self.origin + self.prefix

    @property
    def authority(self) -> str:
        """Host and port, as in the header ``Host``; a default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def headers(self, content_type: str) -> dict[str, str]:
        """Return the headers of every request."""
        headers = {"Content-Type": content_type}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers


def read_address(url: str | None, token: str | None, environ: Mapping[str, str]) -> Address:
    """Return the server's address; read values that are None from the environment.

    Raises:
        SettingsError: the URL or the token is invalid, or the token's file cannot be read.
    """
    check_variables(environ)
    url = url or environ.get(URL) or DEFAULT_URL
    token = checked_token(token or read_secret(environ, API_TOKEN))
    if url.startswith("unix:"):
        path = url.removeprefix("unix:").removeprefix("//")
        if not path or "\0" in path:
            raise _unusable(url)
        return Address(
            scheme="http", host="localhost", port=80, prefix="", token=token, socket=path
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its message may contain the token
        raise _unusable(url) from None
    # urlsplit drops tabs and line breaks.
    if parts.scheme not in PORTS or not parts.hostname or not _URL.fullmatch(url):
        raise _unusable(url)
    return Address(
        scheme=parts.scheme,
        host=parts.hostname,
        port=PORTS[parts.scheme] if port is None else port,
        prefix=parts.path.rstrip("/"),
        token=token or checked_token(unquote(parts.password or "") or None),
    )


def checked_token(token: str | None) -> str | None:
    """Return a token that can be sent in a header.

    Raises:
        SettingsError: it cannot; the error does not contain it.
    """
    if token is not None and not _TOKEN.fullmatch(token):
        raise SettingsError(
            f"the API token ({API_TOKEN} or token=) contains a line break, another control"
            " character, or one that is not ASCII, or a space at an end; remove it"
        )
    return token


def url_for_messages(url: str | None, environ: Mapping[str, str]) -> str:
    """Return the server's URL without credentials."""
    return without_credentials(url or environ.get(URL) or DEFAULT_URL)


def _unusable(url: str) -> SettingsError:
    return SettingsError(
        f"the server's URL is {without_credentials(url)!r}; use one like {DEFAULT_URL} or "
        "unix:/run/pt.sock"
    )
