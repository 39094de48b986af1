"""``Application``: the processes that ``poussetaches run`` starts beside the server."""

from __future__ import annotations

import asyncio
import base64
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from poussetaches.core.signature import PREFIX as SECRET_PREFIX
from poussetaches.server.answering import application_answers
from poussetaches.server.child import Child
from poussetaches.settings import Settings

END_LIMIT = 45.0  # seconds; above the 30 s that gunicorn gives its workers
# Those that tell a server of applications to reload, and the like.
PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
STOPPING = (signal.SIGTERM, signal.SIGINT)
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to connect to instead

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Commands:
    """What is started; the first word of each is the path of a program."""

    application: Sequence[str]
    tasks: Sequence[str] | None = None  # a second process, which tasks are delivered to


class Application:
    """The application's processes: told where the server is, and ended with it."""

    def __init__(
        self,
        commands: Commands,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        has_terminal: bool,
    ) -> None:
        """Take settings with a key and a base URL.

        ``has_terminal`` says that a SIGHUP means that the terminal was closed.
        """
        self._commands = commands
        self._settings = settings
        self._environ = environ
        self._has_terminal = has_terminal
        self._children: list[Child] = []
        self._watches: list[asyncio.Task[None]] = []
        self._first_to_end: Child | None = None

    async def start(self, address: str, stop: Callable[[], None]) -> None:
        """Start the processes; the end of one ends the server."""
        environ = child_environment(self._environ, self._settings, address)
        commands = self._commands
        self._children.append(
            Child("application", commands.application, environ=environ, reads=True)
        )
        if commands.tasks is not None:
            self._children.append(
                Child("application for tasks", commands.tasks, environ=environ, reads=False)
            )
        self._hear(stop)
        for child in self._children:
            await child.start()
            self._watches.append(asyncio.create_task(self._watch(child, stop)))

    async def ready(self) -> None:
        """Wait until the process that tasks are delivered to answers, or for long enough."""
        await application_answers(self._settings)

    async def end(self, number: int | None) -> int:
        """End the processes; return the application's status, or that of the first to end."""
        child = self._children[0]
        if number is None and self._first_to_end is not None:
            child = self._first_to_end
        for each in STOPPING:
            asyncio.get_running_loop().add_signal_handler(each, self._pass_on, each)
        number = signal.SIGTERM if number is None else number
        await asyncio.gather(*(each.end(number, END_LIMIT) for each in self._children))
        await asyncio.gather(*self._watches)
        return child.status or 0

    def kill(self) -> None:
        """End the processes now."""
        for child in self._children:
            child.kill()

    def _hear(self, stop: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in PASSED_ON:
            if signal.getsignal(number) is signal.SIG_IGN:  # as nohup has it
                continue
            if number == signal.SIGHUP and self._has_terminal:
                loop.add_signal_handler(number, stop)
            else:
                loop.add_signal_handler(number, self._pass_on, number)

    def _pass_on(self, number: int) -> None:
        log.info("signal passed on", extra={"signal": signal.Signals(number).name})
        for child in self._children:
            child.signal(number)

    async def _watch(self, child: Child, stop: Callable[[], None]) -> None:
        await child.ended()
        self._first_to_end = self._first_to_end or child
        stop()


def child_environment(
    environ: Mapping[str, str], settings: Settings, address: str
) -> dict[str, str]:
    """Return an environment in which an application finds this server, and knows its calls."""
    given = {
        "POUSSETACHES_URL": _reachable(address),
        "POUSSETACHES_AUTH_KEY": settings.auth_key,
        "POUSSETACHES_API_TOKEN": settings.api_token,
        "POUSSETACHES_SIGNING_SECRET": ",".join(
            SECRET_PREFIX + base64.b64encode(secret).decode() for secret in settings.signing_secret
        ),
    }
    # A secret that is there already and a file of it as well would be two answers.
    files = {f"{name}_FILE" for name in given}
    kept = {name: value for name, value in environ.items() if name not in {*given, *files}}
    return kept | {name: value for name, value in given.items() if value}


def _reachable(address: str) -> str:
    """Return where to connect to in order to reach who listens at an address."""
    if address.startswith("unix:"):
        return f"unix:{Path(address.removeprefix('unix:')).absolute()}"
    parts = urlsplit(address)
    host = ANYWHERE.get(parts.hostname or "", parts.hostname or "")
    return f"http://[{host}]:{parts.port}" if ":" in host else f"http://{host}:{parts.port}"
