"""``Application``: the processes that ``poussetaches run`` starts beside the server."""

from __future__ import annotations

import asyncio
import base64
import logging
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from poussetaches.core.signature import PREFIX as SECRET_PREFIX
from poussetaches.core.target import parse_target, without_credentials
from poussetaches.engine.queue_registry import Queues
from poussetaches.server.address_wait import ENDING_LIMIT, wait_until_free
from poussetaches.server.app_readiness import Listener, application_answers
from poussetaches.server.child import Child
from poussetaches.server.listener import reachable_address
from poussetaches.server.port_owner import (
    is_taken,
    listener_of,
    may_listen,
    name_of,
    process_tree,
)
from poussetaches.server.worker_count import Workers, queues_to, worker_warnings
from poussetaches.settings import Settings

# Application servers reload, or change their number of workers, on these signals.
PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
BASE_URL_ADVICE = "correct the base_url, or leave it out to deliver tasks to the command"
STOPPING = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Command:
    """A program to start. The first word is its path."""

    words: Sequence[str]
    url: str | None = None  # where it listens, if its arguments or environment say so
    workers: Workers | None = None  # None when they are unlimited or unknown


@dataclass(frozen=True)
class Commands:
    """The processes of an application."""

    application: Command
    tasks: Command | None = None  # a second process, which tasks are delivered to

    @property
    def receiver(self) -> Command:
        """The process that tasks are delivered to."""
        return self.tasks or self.application


class Application:
    """The processes of the application. They get the server's address, and end with it."""

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
        self._first_to_end: Child | None = None  # by itself

    async def prepare(self, address: str) -> None:
        """Wait until the addresses of the processes are free.

        Raises:
            AddressTaken: another program listens where one of them would.
        """
        for command in (self._commands.application, self._commands.tasks):
            if command is not None and command.url is not None:
                await wait_until_free(command.url, reachable_address(address))
        self._check_base_url()
        self._report_targets()

    async def start(self, address: str, stop: Callable[[], None]) -> None:
        """Start the processes; the end of one ends the server."""
        environ = child_environment(self._environ, self._settings, address)
        commands = self._commands
        self._children.append(
            Child("application", commands.application.words, environ=environ, reads=True)
        )
        if commands.tasks is not None:
            self._children.append(
                Child("application for tasks", commands.tasks.words, environ=environ, reads=False)
            )
        self._hear(stop)
        for child in self._children:
            await child.start()
            self._watches.append(asyncio.create_task(self._watch(child, stop)))

    async def ready(self, queues: Queues) -> None:
        """Wait until the process that tasks are delivered to answers, or for long enough.

        Raises:
            AddressTaken: another program answers in its place.
        """
        answer = await application_answers(self._settings, self._find_listener)
        self._check_workers(queues, used=answer.queues if answer else ())

    async def end(self, number: int | None) -> int:
        """End the processes; return the status of the first that ended by itself.

        If none did, it is the application's.
        """
        if not self._children:
            return 0
        for each in STOPPING:
            asyncio.get_running_loop().add_signal_handler(each, self._stop, each)
        if number is not None:
            # Service managers may send it to the application too (KillMode=control-group).
            for child in self._children:
                child.excuse(number)
        number = signal.SIGTERM if number is None else number
        await asyncio.gather(*(each.end(number, ENDING_LIMIT) for each in self._children))
        await asyncio.gather(*self._watches)
        return (self._first_to_end or self._children[0]).status or 0

    def kill(self) -> None:
        """End the processes now."""
        for child in self._children:
            child.kill()

    def _report_targets(self) -> None:
        """Log where tasks and the key may be sent: `run` adds the application to both settings."""
        security = self._settings.security
        fields = {
            "base_url": without_credentials(self._settings.queue.base_url or ""),
            "allow_target": ", ".join(security.allow_target) or "all",
            "key_target": ", ".join(security.key_target) or "private addresses",
        }
        log.info("tasks are delivered to the application", extra=fields)

    def _check_base_url(self) -> None:
        """Warn if tasks would be delivered to something other than the command.

        A base URL that differs from the command's address may lead to a proxy.
        """
        base_url, url = self._settings.queue.base_url or "", self._commands.receiver.url
        if url == base_url:
            return
        shown = without_credentials(base_url)
        _, host, port = parse_target(base_url)
        if is_taken(host, port):
            fields = {"url": shown}
            log.warning("base URL is in use before the application was started", extra=fields)
        elif url is not None and parse_target(url).port != port:
            fields = {"url": url, "base_url": shown, "advice": BASE_URL_ADVICE}
            log.warning("the command listens at another port than base_url", extra=fields)

    def _check_workers(self, queues: Queues, *, used: Iterable[str]) -> None:
        """Warn if tasks of the queues that are delivered to the application can block it.

        It must have answered: by then its queues are declared. ``used`` are those of its tasks.
        """
        workers = self._commands.receiver.workers
        if workers is None:
            return
        warnings = worker_warnings(
            workers,
            queues_to(self._settings.queue.base_url or "", queues, used=used),
            max_in_flight=self._settings.delivery.max_in_flight,
            shared=self._commands.tasks is None,
        )
        for event, fields in warnings:
            log.warning(event, extra=dict(fields))

    def _find_listener(self) -> Listener | None:
        """Return the program that listens at the base URL; None if there is none.

        The base URL may lead to a proxy. The listener has to be the application only if the
        command itself names the address.
        """
        url = self._commands.receiver.url
        process_id = self._children[-1].process_id
        if url is None or url != self._settings.queue.base_url or process_id is None:
            return Listener(is_application=True)
        _, host, port = parse_target(url)
        if not is_taken(host, port):
            return None
        if may_listen(process_tree(process_id), host, port):
            return Listener(is_application=True)
        return Listener(is_application=False, name=name_of(listener_of(host, port)))

    def _hear(self, stop: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in PASSED_ON:
            if signal.getsignal(number) is signal.SIG_IGN:  # such as SIGHUP under nohup
                continue
            if number == signal.SIGHUP and self._has_terminal:
                loop.add_signal_handler(number, stop)
            else:
                loop.add_signal_handler(number, self._pass_on, number)

    def _stop(self, number: int) -> None:
        log.info("signal passed on", extra={"signal": signal.Signals(number).name})
        for child in self._children:
            child.stop(number)

    def _pass_on(self, number: int) -> None:
        log.info("signal passed on", extra={"signal": signal.Signals(number).name})
        for child in self._children:
            child.signal(number)

    async def _watch(self, child: Child, stop: Callable[[], None]) -> None:
        await child.ended()
        if child.ended_by_itself:
            self._first_to_end = self._first_to_end or child
        stop()


def child_environment(
    environ: Mapping[str, str], settings: Settings, address: str
) -> dict[str, str]:
    """Return an environment in which an application finds and authenticates this server."""
    given = {
        "POUSSETACHES_URL": reachable_address(address),
        "POUSSETACHES_AUTH_KEY": settings.security.auth_key,
        "POUSSETACHES_API_TOKEN": settings.security.api_token,
        "POUSSETACHES_SIGNING_SECRET": ",".join(
            SECRET_PREFIX + base64.b64encode(secret).decode()
            for secret in settings.security.signing_secret
        ),
    }
    # A secret must not be given both directly and as a file.
    files = {f"{name}_FILE" for name in given}
    kept = {name: value for name, value in environ.items() if name not in {*given, *files}}
    return kept | {name: value for name, value in given.items() if value}
