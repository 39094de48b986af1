"""Counts the attempts that application servers cost by closing connections and by restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import push_of
from benchmarks.measuring import as_rate, scaled
from benchmarks.servers import found
from benchmarks.sidecar import PATIENCE, Sidecar, free_port, fresh, listening, on_disk

COUNT = scaled(20_000, quick=1_000)
PAUSES = 8  # times that the load pauses, for about as long as connections are kept
PAUSE = 1.0  # seconds
RESTARTS = 10
RESTART_COUNT = scaled(6_000, quick=600)
WSGI = "benchmarks.app_servers:wsgi"
ASGI = "benchmarks.app_servers:asgi"
GUNICORN = ("-m", "gunicorn", WSGI, "--no-control-socket", "-b", "127.0.0.1:{port}")
UVICORN = ("-m", "uvicorn", ASGI, "--log-level", "error", "--port", "{port}")
NGINX = """
daemon off; error_log /dev/null; pid {folder}/pid; worker_processes 1;
events {{ }}
http {{
    access_log off; keepalive_timeout 1s;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{behind}; }} }}
}}
"""

SERVERS = {
    "gunicorn, sync": (*GUNICORN, "-w", "4"),
    "gunicorn, sync, --max-requests 50": (*GUNICORN, "-w", "4", "--max-requests", "50"),
    "gunicorn, gthread": (*GUNICORN, "-k", "gthread", "--threads", "32"),
    "gunicorn, gthread, --max-requests 50": (
        *GUNICORN, "-k", "gthread", "--threads", "32", "-w", "2", "--max-requests", "50"
    ),
    **{
        f"uvicorn, --timeout-keep-alive {seconds}": (
            *UVICORN, "--timeout-keep-alive", str(seconds)
        )
        for seconds in (0, 1, 5)
    },
    "waitress": ("-m", "waitress", "--listen=127.0.0.1:{port}", "--channel-timeout=1", WSGI),
    "hypercorn": ("-m", "hypercorn", "--keep-alive", "1", "-b", "127.0.0.1:{port}", ASGI),
    "Werkzeug": (
        "-c", "from werkzeug.serving import run_simple; from benchmarks.app_servers import wsgi; "
        "run_simple('127.0.0.1', {port}, wsgi, threaded=True)"
    ),
}  # fmt: skip
RESTARTED = ("gunicorn, sync", "gunicorn, gthread", "uvicorn, --timeout-keep-alive 5")


class Losses(NamedTuple):
    """Deliveries and what they cost."""

    rate: float  # tasks per second
    failed: int  # attempts
    put_back: int  # attempts that did not count
    repeated: int  # requests


def wsgi(environ: dict[str, object], start_response: object) -> list[bytes]:
    """Answer 200, after reading the body."""
    environ["wsgi.input"].read(int(str(environ.get("CONTENT_LENGTH") or 0)))  # type: ignore[attr-defined]
    start_response("200 OK", [("Content-Length", "2")])  # type: ignore[operator]
    return [b"ok"]


async def asgi(scope: dict[str, object], receive: object, send: object) -> None:
    """Answer 200, after reading the body."""
    if scope["type"] != "http":
        return
    while (await receive())["more_body"]:  # type: ignore[operator]
        pass
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"ok"})  # type: ignore[operator]


class AppServer:
    """An application server that can be restarted."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.port = free_port()
        self._command = [each.format(port=self.port) for each in arguments]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The URL of its application."""
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._command, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        await listening(self.port)

    async def stop(self) -> None:
        """Stop it as a service manager does."""
        assert self._process is not None
        self._process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


@asynccontextmanager
async def running(arguments: Sequence[str]) -> AsyncIterator[AppServer]:
    """Run an application server."""
    server = AppServer(arguments)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def behind_nginx() -> AsyncIterator[str]:
    """Run nginx in front of gunicorn; yield its URL."""
    path = found("nginx")
    assert path is not None, "benchmarks.servers installs nginx"
    with on_disk() as folder:
        async with running(SERVERS["gunicorn, gthread"]) as server:
            port = free_port()
            config = Path(folder) / "nginx.conf"
            config.write_text(NGINX.format(folder=folder, port=port, behind=server.port))
            process = await asyncio.create_subprocess_exec(
                path, "-c", str(config), "-p", str(folder), stderr=asyncio.subprocess.DEVNULL
            )
            try:
                await listening(port)
                yield f"http://127.0.0.1:{port}/"
            finally:
                process.terminate()
                await process.wait()


async def kept_alive(url: str) -> Losses:
    """Deliver tasks in bursts, with pauses in which connections are closed."""
    async with fresh() as sidecar:
        begun = time.monotonic()
        for _ in range(PAUSES):
            await sidecar.push([push_of(url)], COUNT // PAUSES)
            await sidecar.recorded()
            await asyncio.sleep(PAUSE)
        return await _losses(sidecar, begun, COUNT)


async def restarted(server: AppServer) -> Losses:
    """Stop and start the server several times, each time while tasks are delivered."""
    async with fresh() as sidecar:
        begun = time.monotonic()
        for _ in range(RESTARTS):
            await sidecar.push([push_of(server.url)], RESTART_COUNT // RESTARTS)
            await asyncio.sleep(0.05)
            await server.stop()
            await server.start()
            await sidecar.recorded()  # so that no task meets more than two restarts
        return await _losses(sidecar, begun, RESTART_COUNT)


async def _losses(sidecar: Sidecar, begun: float, count: int) -> Losses:
    seconds = time.monotonic() - begun
    found = {}
    for line in (await sidecar.ask("GET", "/metrics")).decode().splitlines():
        name, _, value = line.rpartition(" ")
        found[name.removesuffix(".0")] = value
    return Losses(
        rate=count / seconds,
        failed=int(float(found['poussetaches_attempts_total{outcome="failed"}'])),
        put_back=int(float(found['poussetaches_attempts_total{outcome="put_back"}'])),
        repeated=int(float(found["poussetaches_repeated_requests_total"])),
    )


async def answer() -> Answer:
    """Deliver to each server, and through restarts of some."""
    kept: dict[str, Losses] = {}
    for name, arguments in SERVERS.items():
        async with running(arguments) as server:
            kept[name] = await kept_alive(server.url)
    async with behind_nginx() as url:
        kept["nginx, keepalive_timeout 1s"] = await kept_alive(url)
    through: dict[str, Losses] = {}
    for name in RESTARTED:
        async with running(SERVERS[name]) as server:
            through[name] = await restarted(server)
    head = ["", "failed attempts", "put back", "requests sent again", "tasks/s"]
    return Answer(
        question="app_servers",
        tables=[
            Table(
                "Attempts lost to connections that the application closes",
                head,
                _rows(kept),
                f"{COUNT:,} tasks each, in {PAUSES} bursts, with pauses of {PAUSE:g} s.",
            ),
            Table(
                "Attempts lost to restarts",
                head,
                _rows(through),
                f"{RESTART_COUNT:,} tasks each, while the server is stopped and started again "
                f"{RESTARTS} times. Failed attempts were answered in part.",
            ),
        ],
        figures={
            "lost_to_keep_alive": sum(losses.failed for losses in kept.values()),
            "lost_to_restarts": sum(losses.failed for losses in through.values()),
        },
    )


def _rows(found: dict[str, Losses]) -> list[list[str]]:
    return [
        [name, str(each.failed), str(each.put_back), str(each.repeated), as_rate(each.rate)]
        for name, each in found.items()
    ]


if __name__ == "__main__":
    publish(answer())
