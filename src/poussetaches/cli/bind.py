"""Where a command's server of applications will listen, as its arguments and environment say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from poussetaches.core.hosts import UNSPECIFIED

Arguments = Sequence[str]
Environ = Mapping[str, str]

LOCAL = "127.0.0.1"
# Hosts that mean every interface, and the addresses to connect to instead.
EVERY_INTERFACE = {"": LOCAL, "0": LOCAL, "*": LOCAL, **UNSPECIFIED}
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*", re.IGNORECASE)

# Options that say what an address does not: that TLS is spoken, or that it is a socket's.
ELSEWHERE = (
    *("--certfile", "--ssl-certfile", "--ssl-certificate", "--cert", "--endpoint"),
    *("--uds", "--unix-socket", "--fd"),
)
ELSEWHERE_ENVIRON = (
    *("UVICORN_SSL_CERTFILE", "GRANIAN_SSL_CERTIFICATE", "FLASK_RUN_CERT"),
    *("UVICORN_UDS", "UVICORN_FD", "GRANIAN_UDS"),
)
RUNSERVER_VALUES = ("--settings", "--pythonpath", "--verbosity", "-v")


def base_url_of(command: Arguments, environ: Environ) -> str | None:
    """Return the base URL of a command's application, None if it is unknown."""
    program, arguments = program_in(command, READERS)
    if program is None or value_of(arguments, *ELSEWHERE):
        return None
    if any(map(environ.get, ELSEWHERE_ENVIRON)):
        return None
    address = READERS[program](arguments, environ)
    return None if address is None else url_of(address)


def program_in(command: Arguments, programs: Container[str]) -> tuple[str | None, Arguments]:
    """Return the first of some programs that is in a command, and its arguments.

    Words before its name are skipped: ``python -m``, ``uv run`` …
    """
    for place, word in enumerate(command):
        if PurePath(word).name in programs:
            return PurePath(word).name, command[place + 1 :]
    return None, ()


def url_of(address: str) -> str | None:
    """Return the URL of ``host:port``; None for a socket, or what else is no such address."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    host = EVERY_INTERFACE.get(host, host)
    if not HOST.fullmatch(host) or not re.fullmatch(r"0*[1-9][0-9]{0,4}", port):
        return None
    return f"http://[{host}]:{int(port)}" if ":" in host else f"http://{host}:{int(port)}"


def value_of(arguments: Arguments, *names: str) -> str | None:
    """Return an option's value, the last one given: ``--name value``, ``--name=v``, ``-nv``."""
    found = None
    for place, argument in enumerate(arguments):
        for name in names:
            if argument == name:
                found = "".join(arguments[place + 1 : place + 2])
            elif argument.startswith(f"{name}="):
                found = argument.removeprefix(f"{name}=")
            elif not name.startswith("--") and argument.startswith(name):
                found = argument.removeprefix(name)
    return found


@dataclass(frozen=True)
class HostAndPort:
    """Reads the arguments of a program that takes them one by one."""

    port: int  # when none is given
    host_options: Sequence[str] = ("--host",)
    port_options: Sequence[str] = ("--port",)
    host_variable: str = ""
    port_variable: str = ""

    def __call__(self, arguments: Arguments, environ: Environ) -> str | None:
        host = value_of(arguments, *self.host_options) or environ.get(self.host_variable) or LOCAL
        port = value_of(arguments, *self.port_options) or environ.get(self.port_variable)
        return f"{host}:{port or self.port}"


def gunicorn(arguments: Arguments, environ: Environ) -> str | None:
    given = gunicorn_arguments(arguments, environ)
    bind = value_of(given, "-b", "--bind")
    if bind is not None:
        return with_port(bind.removeprefix("tcp://"))
    if has_gunicorn_file(given):
        return None
    return f":{environ['PORT']}" if environ.get("PORT") else f"{LOCAL}:8000"


def gunicorn_arguments(arguments: Arguments, environ: Environ) -> Arguments:
    """Return gunicorn's arguments with those of its environment in front."""
    return [*shlex.split(environ.get("GUNICORN_CMD_ARGS", "")), *arguments]


def has_gunicorn_file(arguments: Arguments) -> bool:
    """Return whether gunicorn reads a configuration file, which is Python and may set anything."""
    return bool(value_of(arguments, "-c", "--config")) or Path("gunicorn.conf.py").exists()


def hypercorn(arguments: Arguments, _: Environ) -> str | None:
    bind = value_of(arguments, "-b", "--bind")
    if bind is None and value_of(arguments, "-c", "--config"):
        return None
    return with_port(bind or LOCAL)


def waitress(arguments: Arguments, environ: Environ) -> str | None:
    return value_of(arguments, "--listen") or HostAndPort(8080)(arguments, environ)


def flask(arguments: Arguments, environ: Environ) -> str | None:
    if "run" not in arguments:
        return None
    return HostAndPort(
        5000, ("-h", "--host"), ("-p", "--port"), "FLASK_RUN_HOST", "FLASK_RUN_PORT"
    )(arguments, environ)


def django(arguments: Arguments, _: Environ) -> str | None:
    if "runserver" not in arguments:
        return None
    rest = list(arguments[arguments.index("runserver") + 1 :])
    local = "[::1]" if {"-6", "--ipv6"} & set(rest) else LOCAL
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            return word if ":" in word else f"{local}:{word}"
        if word in RUNSERVER_VALUES:
            rest = rest[1:]
    return f"{local}:8000"


def with_port(address: str) -> str:
    """Return an address with the usual port where it has none."""
    return address if ":" in address.rpartition("]")[2] else f"{address}:8000"


READERS: Mapping[str, Callable[[Arguments, Environ], str | None]] = {
    "gunicorn": gunicorn,
    "uvicorn": HostAndPort(8000, host_variable="UVICORN_HOST", port_variable="UVICORN_PORT"),
    "hypercorn": hypercorn,
    "granian": HostAndPort(8000, host_variable="GRANIAN_HOST", port_variable="GRANIAN_PORT"),
    "daphne": HostAndPort(8000, ("-b", "--bind"), ("-p", "--port")),
    "waitress-serve": waitress,
    "fastapi": HostAndPort(8000, port_variable="PORT"),
    "flask": flask,
    "manage.py": django,
    "django-admin": django,
}
