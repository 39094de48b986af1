"""``serve``: starts and stops the parts in order, and handles signals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from random import Random
from typing import Protocol

import uvloop

from poussetaches import __version__
from poussetaches.api.app import Application
from poussetaches.engine.clock import SystemClock
from poussetaches.engine.engine import Engine
from poussetaches.engine.stats import Stats
from poussetaches.logs import configure_logging, log_python_errors
from poussetaches.relaunch import is_executable
from poussetaches.server.companion import Alone, Companion
from poussetaches.server.connection_limits import Patience
from poussetaches.server.descriptors import Descriptors, divide_descriptors
from poussetaches.server.endpoints import DIALECTS
from poussetaches.server.http_server import HttpServer
from poussetaches.server.listener import (
    address_of,
    listening,
    reachable_address,
    warn_of_other_port,
)
from poussetaches.server.parts import Parts
from poussetaches.server.test_mode_parts import TestModeServer
from poussetaches.settings import Settings
from poussetaches.store import open_store
from poussetaches.store.base import Store
from poussetaches.store.folder import DataFolder
from poussetaches.store.original_folder import take_over

GARBAGE = 20_000  # objects made and kept between two collections; some 2 MB
LOCK_CHECK = 1.0  # seconds between two checks of the folder's lock
REPEAT = 0.2  # seconds between signals that count as one, in the executable
LOSSES = 2  # failed checks in a row; a folder being deleted loses its files one by one
FAILED = 1  # exit status of a server that stopped by itself

log = logging.getLogger(__name__)


class Service(Protocol):
    """The API and the engine of a server, with or without a data folder."""

    @property
    def app(self) -> Application:
        """The API."""

    @property
    def engine(self) -> Engine:
        """The engine, which a reset of test mode replaces."""

    def start(self) -> None:
        """Start deliveries."""

    async def drain(self, limit: float) -> None:
        """Start no more attempts, and give those in flight some seconds to end."""

    async def end_requests(self) -> None:
        """End long requests: bulk edits, waits and event streams."""

    async def close(self) -> None:
        """Stop the other parts, after the last request."""


def serve(
    settings: Settings, companion: Companion | None = None, *, any_port: bool = False
) -> int:
    """Run the server until it is stopped; return the exit status, its companion's if any.

    With ``any_port``, a free port replaces one that is in use.

    Raises:
        CannotListen: the address is in use or not available, or needs a token.
        CannotOpenStore: the data folder cannot be used.
        TooFewDescriptors: the limit of open files is too low.
    """
    configure_logging(settings.logging.log_format, settings.logging.log_level, sys.stderr)
    log_python_errors()
    _collect_less_often()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(settings, companion or Alone(), any_port=any_port))


def _collect_less_often() -> None:
    """Exclude modules from garbage collection, and collect less often.

    Thousands of tasks per second make no cycles: with Python's default thresholds, the search for
    them is a sixth of the work of a push (docs/decisions/0018-garbage.md).
    """
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 50)


async def run(settings: Settings, companion: Companion, *, any_port: bool = False) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP; a second one ends attempts in flight at once."""
    stops = _Stops()
    with listening(settings.listener, settings.security, any_port=any_port) as listener:
        descriptors = divide_descriptors(settings.delivery.max_in_flight)
        if settings.testing.test_mode:
            status = await _run_test_mode(settings, listener, descriptors, stops, companion)
        else:
            status = await _run_on_folder(settings, listener, descriptors, stops, companion)
    log.info("stopped")
    return status or (FAILED if stops.failed else 0)


async def _run_on_folder(
    settings: Settings,
    listener: socket.socket,
    descriptors: Descriptors,
    stops: _Stops,
    companion: Companion,
) -> int:
    async with _locked(settings.storage.data_dir, stops) as folder:
        clock, random = SystemClock(), Random()  # noqa: S311 - ids and jitter, no secrets
        is_new = folder.is_new
        store = await open_store(
            folder, now=clock.now, window=settings.storage.commit_window, random=random
        )
        log.info("data folder opened", extra={"path": str(folder.path.resolve()), "new": is_new})
        try:
            # Only now: a folder whose store cannot be opened stays unchanged.
            with folder.address_file(reachable_address(address_of(listener))):
                parts = await _loaded(store, settings, descriptors, clock, random)
                http = _http_server(parts.app, listener, descriptors)
                return await _serve(parts, http, settings, stops, companion)
        finally:
            await store.close()


async def _loaded(
    store: Store,
    settings: Settings,
    descriptors: Descriptors,
    clock: SystemClock,
    random: Random,
) -> Parts:
    """Return the loaded parts of a server whose store has taken over the original's files."""
    await take_over(settings.storage.data_dir, store, now=clock.now())
    if settings.delivery.start_paused:
        await store.set_paused(True)
    stats = Stats(store=store, clock=clock, random=random)
    parts = Parts(
        store,
        settings,
        descriptors=descriptors,
        clock=clock,
        random=random,
        stats=stats,
        observer=stats,
    )
    await parts.load()
    parts.engine.postpone_attempts()
    return parts


async def _run_test_mode(
    settings: Settings,
    listener: socket.socket,
    descriptors: Descriptors,
    stops: _Stops,
    companion: Companion,
) -> int:
    log.warning("test mode: nothing is stored, and time stands still until a request advances it")
    server = TestModeServer(settings, descriptors=descriptors)
    await server.open()
    http = _http_server(server.app, listener, descriptors)
    return await _serve(server, http, settings, stops, companion)


def _http_server(
    app: Application, listener: socket.socket, descriptors: Descriptors
) -> HttpServer:
    patience = Patience(most=descriptors.connections)
    return HttpServer(
        app, listener, pushes=lambda: app.pushes, patience=patience, dialects=DIALECTS
    )


async def _serve(
    service: Service, http: HttpServer, settings: Settings, stops: _Stops, companion: Companion
) -> int:
    await http.start()
    if settings.security.auth_key is None:
        log.warning(
            "no auth key is set: receivers cannot tell our requests from others; set "
            "POUSSETACHES_AUTH_KEY for the server and the application"
        )
    log.info(
        "listening",
        extra={
            "address": http.address,
            "data_dir": "none"
            if settings.testing.test_mode
            else str(settings.storage.data_dir.resolve()),
            "version": __version__,
            "paused": service.engine.paused,
        },
    )
    address_file = (
        None if settings.testing.test_mode else DataFolder(settings.storage.data_dir).address_path
    )
    warn_of_other_port(settings.listener, http.address, address_file)
    try:
        if await _comes_before(companion.prepare(http.address), stops.first.wait()):
            await companion.start(http.address, stops.stop)
            if await _comes_before(companion.ready(service.engine.queues), stops.first.wait()):
                service.start()
                await stops.first.wait()
        await _drain(service, settings, stops)
        # Its last requests may push tasks, so the API stays up until it has ended.
        status = await companion.end(stops.number)
    finally:
        companion.kill()
    await service.end_requests()
    await http.stop()
    await service.close()
    return status


async def _drain(service: Service, settings: Settings, stops: _Stops) -> None:
    """Wait until the attempts in flight end; a second signal ends them at once."""
    log.info("stopping", extra={"in_flight": service.engine.in_flight})
    # The API stays up while attempts end: their receivers push tasks, too.
    draining = asyncio.create_task(service.drain(settings.delivery.drain_timeout))
    if not await _comes_before(asyncio.shield(draining), stops.second.wait()):
        service.engine.cut_off()
    await draining


async def _comes_before(first: Awaitable[object], other: Awaitable[object]) -> bool:
    """Return whether the first of two ends no later than the other; cancel the later one.

    An error of the first is raised.
    """
    waits = asyncio.ensure_future(first), asyncio.ensure_future(other)
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    is_first = waits[0].done()
    for wait in waits:
        wait.cancel()
    if is_first:
        waits[0].result()
    else:
        await asyncio.wait({waits[0]})
    return is_first


class _Stops:
    """Requests to stop the server: by signals, its companion's end, or a lost folder lock."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.failed = False  # whether it stops because of a failure
        self.number: int | None = None  # the last signal received
        self._heard_at = -REPEAT
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heard, number)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
            # A closed terminal may send it more than once: it never cuts off attempts.
            loop.add_signal_handler(signal.SIGHUP, self.stop)

    def stop(self) -> None:
        """End the server as the first signal does."""
        self.first.set()

    def fail(self) -> None:
        """End the server as the first signal does, with exit status 1."""
        self.failed = True
        self.first.set()

    def _heard(self, number: int) -> None:
        now = asyncio.get_running_loop().time()
        # systemd signals every process of a service, and the loader of the executable passes its
        # signal on: one request to stop arrives twice.
        is_repeated = is_executable and number == self.number and now - self._heard_at < REPEAT
        self.number, self._heard_at = number, now
        if not is_repeated:
            (self.second if self.first.is_set() else self.first).set()


@contextlib.asynccontextmanager
async def _locked(path: Path, stops: _Stops) -> AsyncIterator[DataFolder]:
    """Lock a data folder, and stop the server if the lock is lost."""
    folder = DataFolder(path)
    await asyncio.to_thread(folder.lock)  # may wait for a command that reads the store
    guard = asyncio.create_task(_stop_without_lock(folder, stops))
    try:
        yield folder
    finally:
        guard.cancel()
        folder.unlock()


async def _stop_without_lock(folder: DataFolder, stops: _Stops) -> None:
    """Stop the server when its folder's lock is lost: another server may use the folder."""
    losses = 0
    while losses < LOSSES:
        await asyncio.sleep(LOCK_CHECK)
        losses = losses + 1 if await asyncio.to_thread(folder.has_lost_lock) else 0
    log.error(
        "stopping: the lock file of the data folder was deleted or replaced",
        extra={"path": str(folder.path.resolve())},
    )
    stops.fail()
