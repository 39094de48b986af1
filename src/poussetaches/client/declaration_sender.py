"""Declares the code's queues and schedules to the server."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Unpack, cast

from poussetaches.client.errors import ClientError, Conflict, InvalidRequest
from poussetaches.client.request_fields import QueueFields
from poussetaches.client.results import DeclaredSchedules
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.probe_answer import DeclarationStatus, Refusal

FIRST_WAIT = 1.0  # seconds before a retry; doubles each time
MAX_WAIT = 60.0  # seconds

log = logging.getLogger(__name__)


class Declarer(NamedTuple):
    """The application that declares: its owner name, and the top-level modules of its tasks."""

    owner: str
    modules: Sequence[str]


@dataclass(frozen=True)
class Declaration:
    """The queues and schedules that the code declares, by the server's names."""

    queues: Mapping[str, Mapping[str, object]]
    declarer: Declarer
    schedules: Sequence[Mapping[str, object]]
    version: int | None
    replaces: bool
    """Whether to delete the owner's other schedules."""


class RoutedQueue(NamedTuple):
    """A queue with a base URL in the code: its name on the server, and its settings."""

    name: str
    settings: QueueFields
    declarer: Declarer


class DeclaringClient(Protocol):
    """The methods of a client that declare."""

    def declare_queue(
        self, name: str, *, owner: str, modules: Sequence[str], **settings: Unpack[QueueFields]
    ) -> object:
        """Declare the settings that the code defines for a queue."""

    def declare_schedules(
        self, owner: str, version: int | None, schedules: Sequence[Mapping[str, object]]
    ) -> DeclaredSchedules:
        """Declare all schedules of an owner; a refused one does not affect the others."""


class DeclarationRefused(ClientError):
    """The server refused some queues or schedules, and accepted the others."""

    def __init__(self, refused: Sequence[Refusal]) -> None:
        super().__init__("not declared: " + "; ".join(map(str, refused)))
        self.refused = tuple(refused)


def declare(client: DeclaringClient, declaration: Declaration) -> None:
    """Declare everything once; a refusal does not affect the rest.

    Nothing more is declared to the server of another application.

    A set of schedules with a lower version than the server's is not changed, and a log line says
    so: a newer release of the application declared it.

    Raises:
        DeclarationRefused: the server refused some of it.
        ClientError: the server did not answer, or cannot do it at the moment.
    """
    refused: list[Refusal] = []
    for name, settings in declaration.queues.items():
        try:
            client.declare_queue(
                name,
                owner=declaration.declarer.owner,
                modules=declaration.declarer.modules,
                **cast("QueueFields", settings),
            )
        except (Conflict, InvalidRequest) as exc:
            refused.append(Refusal("queue", name, exc.detail or str(exc)))
            if exc.code == "owned-by-another":
                raise DeclarationRefused(refused) from exc
    if declaration.replaces:
        refused += _declare_schedules(client, declaration)
    if refused:
        raise DeclarationRefused(refused)


def _declare_schedules(client: DeclaringClient, declaration: Declaration) -> list[Refusal]:
    owner = declaration.declarer.owner
    try:
        declared = client.declare_schedules(owner, declaration.version, declaration.schedules)
    except Conflict as exc:
        if exc.code != "older-version":
            return [Refusal("schedules of", owner, exc.detail or str(exc))]
        log.info("schedules not declared: %s", exc.detail)
        return []
    except InvalidRequest as exc:  # an older server accepts all of them or none
        return [Refusal("schedules of", owner, exc.detail)]
    return [
        Refusal("schedule", it.name, f"{it.field}: {it.reason}" if it.field else it.reason)
        for it in declared.refused
    ]


def declare_until_done(
    declare: Callable[[], None],
    *,
    sleep: Callable[[float], None],
    note: Callable[[DeclarationStatus], None] = lambda status: None,
) -> None:
    """Declare, and retry while the server cannot be reached or cannot store it.

    Refusals are logged, not retried. ``note`` gets the status after each attempt.
    """
    wait = FIRST_WAIT
    while True:
        try:
            declare()
        except DeclarationRefused as exc:
            for refusal in exc.refused:
                log.error("not declared: %s", refusal)
            note(DeclarationStatus("done", refused=exc.refused))
            return
        except ClientError as exc:
            log.warning("queues and schedules not declared yet: %s; retrying in %g s", exc, wait)
            note(DeclarationStatus("failing", str(exc)))
        except PousseTachesError as exc:  # an error in the code
            log.error("queues and schedules not declared: %s", exc)
            note(DeclarationStatus("failing", str(exc)))
            return
        else:
            log.info("queues and schedules declared")
            note(DeclarationStatus("done"))
            return
        sleep(wait)
        wait = min(2 * wait, MAX_WAIT)


class Background:
    """Declares in a thread, once per process, and again after a fork."""

    def __init__(
        self,
        declare: Callable[[], None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        process_id: Callable[[], int] = os.getpid,
    ) -> None:
        self._declare = declare
        self._sleep = sleep
        self._process_id = process_id
        self._lock = threading.Lock()
        self._started_in: int | None = None
        self._status = DeclarationStatus()

    @property
    def status(self) -> DeclarationStatus:
        """The status in this process."""
        return self._status if self._started_in == self._process_id() else DeclarationStatus()

    def start(self) -> threading.Thread | None:
        """Start the thread and return it; None if this process has started one."""
        process_id = self._process_id()
        if self._started_in == process_id:
            return None  # without the lock: this runs at each request
        with self._lock:
            if self._started_in == process_id:
                return None
            self._status = DeclarationStatus("pending")
            self._started_in = process_id
        thread = threading.Thread(
            target=declare_until_done,
            args=(self._declare,),
            kwargs={"sleep": self._sleep, "note": self._note},
            name="poussetaches-declare",
            daemon=True,  # an unreachable server must not keep the application from exiting
        )
        thread.start()
        return thread

    def _note(self, status: DeclarationStatus) -> None:
        self._status = status
