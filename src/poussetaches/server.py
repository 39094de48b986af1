"""The composition root: builds the parts, starts and stops them in order, hears signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import uvicorn
import uvloop
from starlette.types import ASGIApp

from poussetaches import __version__
from poussetaches.api.app import build_app
from poussetaches.core.errors import CannotListen
from poussetaches.core.queue import QueueSettings, Retention
from poussetaches.core.retry import RetryPolicy
from poussetaches.engine.clock import SystemClock
from poussetaches.engine.config import EngineConfig
from poussetaches.engine.engine import Engine
from poussetaches.engine.sender import HttpSender
from poussetaches.logs import configure_logging
from poussetaches.settings import Settings
from poussetaches.store import open_store
from poussetaches.store.base import Store
from poussetaches.store.folder import DataFolder
from poussetaches.store.original_folder import take_over

BACKLOG = 2048  # connections that may wait to be accepted
IDLE_CONNECTION = 75  # seconds; longer than clients keep theirs, so that they close first
CONNECTIONS_END = 5  # seconds for requests under way when the server stops

log = logging.getLogger(__name__)


def serve(settings: Settings) -> int:
    """Run the server until it is told to stop; return the exit status.

    Raises:
        CannotListen: the address is taken or not ours.
        CannotOpenStore: the data folder cannot be used.
    """
    configure_logging(settings.log_format, settings.log_level, sys.stderr)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings))
    return 0


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends attempts in flight at once."""
    stops = _Stops()
    with _listening(settings) as listener, _locked(settings.data_dir) as folder:
        clock, random = SystemClock(), Random()  # noqa: S311 - ids and jitter, no secrets
        store = await open_store(folder, now=clock.now, window=settings.commit_window)
        try:
            await take_over(settings.data_dir, store, now=clock.now())
            if settings.start_paused:
                await store.set_paused(True)
            engine = _engine(store, settings, clock=clock, random=random)
            app = build_app(
                store=store,
                engine=engine,
                now=clock.now,
                random=random,
                max_body=settings.max_body,
                max_request=settings.max_request,
            )
            await _deliver(engine, HttpServer(app, listener), settings, stops)
        finally:
            await store.close()
    log.info("stopped")


def _engine(store: Store, settings: Settings, *, clock: SystemClock, random: Random) -> Engine:
    sender = HttpSender(connect_timeout=settings.connect_timeout, now=clock.now)
    config = _engine_config(settings)
    return Engine(store=store, sender=sender, clock=clock, random=random, config=config)


async def _deliver(engine: Engine, http: HttpServer, settings: Settings, stops: _Stops) -> None:
    await engine.load()
    await http.start()
    engine.start()
    if settings.auth_key is None:
        log.warning("no auth key is set: receivers cannot tell our requests from others")
    log.info(
        "listening",
        extra={
            "address": http.address,
            "data_dir": str(settings.data_dir),
            "version": __version__,
            "paused": engine.paused,
        },
    )
    await stops.first.wait()
    log.info("stopping", extra={"in_flight": engine.in_flight})
    # The API stays up while attempts end: their receivers push tasks, too.
    stopping = asyncio.create_task(engine.stop(settings.drain_timeout))
    hurrying = asyncio.create_task(stops.second.wait())
    await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        engine.cut_off()
    await stopping
    hurrying.cancel()
    await http.stop()


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers, and without its ten wake-ups a second."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=IDLE_CONNECTION,
                timeout_graceful_shutdown=CONNECTIONS_END,
            )
        )
        self._listener = listener

    @property
    def address(self) -> str:
        """Where it listens."""
        return _address(self._listener)

    async def start(self) -> None:
        """Begin to accept connections."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[self._listener])

    async def stop(self) -> None:
        """Stop accepting, and let requests under way end."""
        await self.shutdown(sockets=[self._listener])


class _Stops:
    """The signals that end the server."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heard)

    def _heard(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[DataFolder]:
    folder = DataFolder(path)
    folder.lock()
    try:
        yield folder
    finally:
        folder.unlock()


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    if settings.uds is not None:
        listener = _listen_at(settings.uds)
    else:
        listener = _listen_on(settings.host, settings.port)
    try:
        yield listener
    finally:
        listener.close()
        if settings.uds is not None:
            settings.uds.unlink(missing_ok=True)


def _listen_on(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError as exc:
        raise CannotListen(f"cannot listen on {host}: {exc.strerror}; see --host") from exc
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise CannotListen(
            f"cannot listen on {host} port {port}: {exc.strerror}; stop what uses it, or choose "
            "another with --port"
        ) from exc
    return listener


def _listen_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_abandoned(path)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise CannotListen(
            f"cannot listen at {path}: {exc.strerror or exc}; choose another with --uds"
        ) from exc
    return listener


def _remove_abandoned(path: Path) -> None:
    """Remove a socket that nobody listens at any more; leave everything else alone."""
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def _address(listener: socket.socket) -> str:
    if listener.family is socket.AF_UNIX:
        return f"unix:{os.fsdecode(listener.getsockname())}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _engine_config(settings: Settings) -> EngineConfig:
    return EngineConfig(
        queue=QueueSettings(
            rate=settings.rate,
            burst=settings.burst,
            concurrency=settings.concurrency,
            origin_concurrency=settings.origin_concurrency,
            timeout=settings.timeout,
            retry=RetryPolicy(
                max_attempts=settings.max_attempts,
                min_backoff=settings.min_backoff,
                multiplier=settings.multiplier,
                max_backoff=settings.max_backoff,
                jitter=settings.jitter,
                max_age=settings.max_age,
                max_retry_after=settings.max_retry_after,
                dead_on=settings.dead_on,
            ),
            keep_succeeded=Retention(settings.keep_succeeded_count, settings.keep_succeeded_age),
            keep_dead=Retention(settings.keep_dead_count, settings.keep_dead_age),
        ),
        original_retry=RetryPolicy(
            max_attempts=settings.original_max_attempts,
            min_backoff=settings.original_min_backoff,
            multiplier=settings.original_multiplier,
            max_backoff=settings.original_max_backoff,
            jitter=settings.original_jitter,
        ),
        max_in_flight=settings.max_in_flight,
        hold_for=settings.hold_for,
        auth_key=settings.auth_key,
        key_targets=frozenset(settings.key_target),
    )
