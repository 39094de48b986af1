"""The address at which an application server will listen, from its arguments and environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from poussetaches.cli.app_command import Environ, Options, server_in
from poussetaches.core.errors import Invalid
from poussetaches.core.hosts import UNSPECIFIED
from poussetaches.core.target import parse_target

LOCAL = "127.0.0.1"
# Hosts that stand for all interfaces, and the addresses to connect to instead.
EVERY_INTERFACE = {"": LOCAL, "0": LOCAL, "*": LOCAL, **UNSPECIFIED}
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*", re.IGNORECASE)

# Options for TLS and for sockets, whose address is not an http:// URL.
NOT_HTTP_OPTIONS = (
    *("certfile", "ssl_certfile", "ssl_certificate", "cert", "endpoint"),
    *("uds", "unix_socket", "fd"),
)
NOT_HTTP_VARIABLES = (
    *("UVICORN_SSL_CERTFILE", "GRANIAN_SSL_CERTIFICATE", "FLASK_RUN_CERT"),
    *("UVICORN_UDS", "UVICORN_FD", "GRANIAN_UDS"),
)

FLASK_VARIABLES = {name: f"FLASK_RUN_{name.upper()}" for name in ("host", "port", "cert")}
DOTENV = (".flaskenv", ".env")


def base_url_of(command: Sequence[str], environ: Environ) -> str | None:
    """Return the base URL of the application that a command starts; None if it is unknown.

    Raises:
        SettingsError: the application's server cannot read its environment.
    """
    server = server_in(command, environ)
    if server is None or any(map(server.options.get, NOT_HTTP_OPTIONS)):
        return None
    if any(map(server.environ.get, NOT_HTTP_VARIABLES)):
        return None
    address = READERS[server.program](server.options, server.environ)
    return None if address is None else url_of(address)


def url_of(address: str) -> str | None:
    """Return the URL of ``host:port``; None for any other address."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    host = EVERY_INTERFACE.get(host, host)
    if not HOST.fullmatch(host) or not re.fullmatch(r"0*[1-9][0-9]{0,4}", port):
        return None
    url = f"http://[{host}]:{int(port)}" if ":" in host else f"http://{host}:{int(port)}"
    try:
        parse_target(url)
    except Invalid:
        return None
    return url


@dataclass(frozen=True)
class HostAndPort:
    """Reads the options of a program that has one for the host and one for the port."""

    port: int  # the default
    host_option: str = "host"
    host_variable: str = ""
    port_variable: str = ""

    def __call__(self, options: Options, environ: Environ) -> str | None:
        host = options.get(self.host_option) or environ.get(self.host_variable) or LOCAL
        port = options.get("port") or environ.get(self.port_variable)
        return f"{host}:{port or self.port}"


def gunicorn(options: Options, environ: Environ) -> str | None:
    if "bind" in options:
        return with_port(options["bind"].removeprefix("tcp://"))
    if has_gunicorn_file(options):
        return None
    return f":{environ['PORT']}" if environ.get("PORT") else f"{LOCAL}:8000"


def has_gunicorn_file(options: Options) -> bool:
    """Return whether gunicorn reads a configuration file; it is Python, and may set any option."""
    return bool(options.get("config")) or is_file(Path("gunicorn.conf.py"))


def is_file(path: Path) -> bool:
    """Return whether a file exists and its folder is accessible."""
    try:
        return path.is_file()
    except OSError:
        return False


def hypercorn(options: Options, _: Environ) -> str | None:
    if "bind" not in options and options.get("config"):
        return None
    return with_port(options.get("bind") or LOCAL)


def waitress(options: Options, environ: Environ) -> str | None:
    return options.get("listen") or HostAndPort(8080)(options, environ)


def flask(options: Options, environ: Environ) -> str | None:
    given = {*options, *(name for name, key in FLASK_VARIABLES.items() if environ.get(key))}
    if not flask_file_names(options, environ) <= given:
        return None
    return HostAndPort(5000, "host", FLASK_VARIABLES["host"], FLASK_VARIABLES["port"])(
        options, environ
    )


def flask_file_names(options: Options, environ: Environ) -> set[str]:
    """Return the names of the options that Flask may read from its dotenv files."""
    paths = [Path(options["env_file"])] if options.get("env_file") else []
    if not environ.get("FLASK_SKIP_DOTENV"):
        paths += filter(None, map(nearest_file, DOTENV))
    texts = [text_of(path) for path in paths]
    return {name for name, key in FLASK_VARIABLES.items() if any(key in text for text in texts)}


def nearest_file(name: str) -> Path | None:
    """Return the file of this name in the current folder, or in the nearest parent that has it."""
    try:
        folder = Path.cwd()
    except OSError:
        return None
    return next(filter(is_file, (each / name for each in (folder, *folder.parents))), None)


def text_of(path: Path) -> str:
    """Return the text of a file; an empty one if it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def django(options: Options, _: Environ) -> str | None:
    local = "[::1]" if "ipv6" in options else LOCAL
    address = options.get("address", "8000")
    return address if ":" in address else f"{local}:{address}"


def with_port(address: str) -> str:
    """Return an address, with the default port if it has none."""
    return address if ":" in address.rpartition("]")[2] else f"{address}:8000"


READERS: Mapping[str, Callable[[Options, Environ], str | None]] = {
    "gunicorn": gunicorn,
    "uvicorn": HostAndPort(8000, host_variable="UVICORN_HOST", port_variable="UVICORN_PORT"),
    "hypercorn": hypercorn,
    "granian": HostAndPort(8000, host_variable="GRANIAN_HOST", port_variable="GRANIAN_PORT"),
    "daphne": HostAndPort(8000, "bind"),
    "waitress-serve": waitress,
    "fastapi": HostAndPort(8000, port_variable="PORT"),
    "flask": flask,
    "manage.py": django,
    "django-admin": django,
}
