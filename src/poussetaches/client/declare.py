"""Telling the server of the queues and schedules that the code declares."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Unpack, cast

from poussetaches.client.errors import ClientError, Conflict, InvalidRequest
from poussetaches.client.fields import QueueFields
from poussetaches.core.errors import PousseTachesError

FIRST_WAIT = 1.0  # seconds until a declaration is repeated; each time twice as long
LONGEST_WAIT = 60.0  # seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Declaration:
    """What the code says of its queues and schedules, by the server's names."""

    queues: Mapping[str, Mapping[str, object]]
    owner: str
    schedules: Sequence[Mapping[str, object]]
    version: int | None
    replaces: bool
    """Whether schedules of the owner that are not among these are to be deleted."""


class Declarations(Protocol):
    """The part of a client that declares."""

    def edit_queue(self, name: str, **settings: Unpack[QueueFields]) -> object:
        """Set some of a queue's settings."""

    def put_schedules(
        self, owner: str, version: int | None, schedules: Sequence[Mapping[str, object]]
    ) -> object:
        """Replace the schedules of an owner."""


def declare(client: Declarations, declaration: Declaration) -> None:
    """Tell the server of everything once.

    A set of schedules with a lower version than the server's is left alone, with a log line: it
    is what a newer release of the application declared.

    Raises:
        ClientError: the server did not answer, or refused something.
    """
    for name, settings in declaration.queues.items():
        client.edit_queue(name, **cast("QueueFields", settings))
    if not declaration.replaces:
        return
    try:
        client.put_schedules(declaration.owner, declaration.version, declaration.schedules)
    except Conflict as exc:
        if exc.code != "older-version":
            raise
        log.info("schedules not declared: %s", exc.detail)


def declare_until_done(declare: Callable[[], None], *, sleep: Callable[[float], None]) -> None:
    """Declare, again and again while the server cannot be reached or cannot store it.

    What it refuses for good is logged, and not repeated.
    """
    wait = FIRST_WAIT
    while True:
        try:
            declare()
        except ClientError as exc:
            if isinstance(exc, Conflict | InvalidRequest):
                log.error("queues and schedules not declared: %s", exc)
                return
            log.warning("queues and schedules not declared yet: %s; again in %g s", exc, wait)
        except PousseTachesError as exc:  # the code's own fault
            log.error("queues and schedules not declared: %s", exc)
            return
        else:
            log.info("queues and schedules declared")
            return
        sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


class Background:
    """Declares in a thread, once in each process: a fork begins anew."""

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

    def start(self) -> threading.Thread | None:
        """Begin, and return the thread; none when this process has begun before."""
        process_id = self._process_id()
        if self._started_in == process_id:
            return None  # without the lock: it is asked at each request
        with self._lock:
            if self._started_in == process_id:
                return None
            self._started_in = process_id
        thread = threading.Thread(
            target=declare_until_done,
            args=(self._declare,),
            kwargs={"sleep": self._sleep},
            name="poussetaches-declare",
            daemon=True,  # the server being away must not keep the application from ending
        )
        thread.start()
        return thread
