"""Starts a server and a small application, and shows what happens to the tasks it pushes.

Everything shown is read from the running server's listings: the script knows the pushed tasks and
what their expected ends, but not the actual ones.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hmac import compare_digest
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

HOST = "127.0.0.1"
KEY = secrets.token_hex(16)
LISTINGS = ("waiting", "success", "dead")  # in the order in which a task passes through them
POLL_INTERVAL = 0.25  # seconds
START_LIMIT = 20.0  # seconds; it takes less than one, but the first start compiles
LIMIT = 30.0  # seconds for all tasks together; they need about seven
STOP_LIMIT = 10.0  # seconds
RUNS = 3  # of the schedule, before the demonstration ends
FAILURES = 2  # of the task that succeeds in the end
MAX_ATTEMPTS = 4
SECOND = 1_000_000_000  # nanoseconds, the unit of the listings

# Short backoffs, so that a task dies during the demonstration. The defaults take 16 days.
RETRIES = {
    "POUSSETACHES_ORIGINAL_MIN_BACKOFF": "0.5",
    "POUSSETACHES_ORIGINAL_MULTIPLIER": "2",
    "POUSSETACHES_ORIGINAL_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
}


class DemoError(Exception):
    """The demonstration cannot go on."""


@dataclass(frozen=True)
class Seen:
    """A task as a listing shows it."""

    id: str
    path: str
    listing: str
    tries: int
    schedule: str
    next_run: int
    status: int
    error: str

    @property
    def wait(self) -> float:
        """Seconds until the next attempt."""
        return max(0.0, (self.next_run - time.time_ns()) / SECOND)


@dataclass(frozen=True)
class Plan:
    """A task to push, and its expected end."""

    name: str
    path: str
    about: str
    done: Callable[[Row], bool]
    schedule: str = ""
    delay: int = 0  # minutes


@dataclass
class Row:
    """A pushed task: its plan, its id, and its present state in the listings."""

    plan: Plan
    id: str
    now: Seen | None = None
    runs: int = 0  # successful runs of its schedule

    def describe(self) -> str:
        """Return its state in words, without the countdown."""
        seen = self.now
        if seen is None:
            return "not listed yet"
        if seen.schedule:
            return f"scheduled {seen.schedule}, {count(self.runs, 'run')} succeeded"
        if seen.listing == "success":
            return f"succeeded at attempt {seen.tries}"
        if seen.listing == "dead":
            return f"dead after {count(seen.tries, 'attempt')}, the last: {told(seen)}"
        if seen.tries:
            return f"attempt {seen.tries} failed: {told(seen)}"
        return f"delayed by {count(self.plan.delay, 'minute')}" if self.plan.delay else "waiting"

    @property
    def countdown(self) -> str:
        """The time until the next attempt, if it waits for one."""
        if self.now is None or self.now.listing != "waiting":
            return ""
        return f"{self.now.wait:.1f} s"


PLANS = (
    Plan(
        "welcome mail",
        "/tasks/welcome",
        "succeeds at once",
        lambda row: in_listing(row, "success", tries=1),
    ),
    Plan(
        "feed import",
        "/tasks/import",
        f"fails {FAILURES} times, then succeeds",
        lambda row: in_listing(row, "success", tries=FAILURES + 1),
    ),
    Plan(
        "broken report",
        "/tasks/report",
        f"fails every time and dies after {MAX_ATTEMPTS} attempts",
        lambda row: in_listing(row, "dead", tries=MAX_ATTEMPTS),
    ),
    Plan(
        "reminder",
        "/tasks/reminder",
        "is delayed by a minute, longer than this demo takes",
        lambda row: in_listing(row, "waiting", tries=0),
        delay=1,
    ),
    Plan(
        "clean-up",
        "/tasks/clean",
        f"runs every two seconds; we watch {RUNS} runs",
        lambda row: in_listing(row, "waiting") and row.runs >= RUNS,
        schedule="@every 2s",
    ),
)


def in_listing(row: Row, listing: str, tries: int | None = None) -> bool:
    seen = row.now
    return seen is not None and seen.listing == listing and tries in (None, seen.tries)


def count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def told(seen: Seen) -> str:
    first_line = seen.error.partition("\n")[0]
    return f"{seen.status} {first_line}" if seen.status > 0 else first_line


class Tasks(BaseHTTPRequestHandler):
    """The example application: one path for each task."""

    def do_POST(self) -> None:
        """Run a task, or fail."""
        envelope = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers.get("Poussetaches-Auth-Key", "")
        if not compare_digest(key.encode(), KEY.encode()):
            self._answer(403, "wrong key")
        elif self.path == "/tasks/import" and envelope["tries"] <= FAILURES:
            self._answer(503, "the feed is not there yet")
        elif self.path == "/tasks/report":
            self._answer(500, "the template is missing")
        else:
            self._answer(200, "done")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the terminal is for the server's output."""

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass
class Server:
    """A running poussetaches, as an application sees it."""

    port: int
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def push(self, url: str, plan: Plan) -> str:
        """Push a task and return its id."""
        payload = base64.b64encode(json.dumps({"task": plan.name}).encode()).decode()
        status, task_id, answer = self._ask(
            "POST",
            "/",
            {
                "url": url + plan.path,
                "payload": payload,
                "expected": 200,
                "schedule": plan.schedule,
                "delay": plan.delay,
            },
        )
        if status != 201:  # noqa: PLR2004 - Created
            raise DemoError(f"pushing {plan.name!r} was answered with {status}: {answer!r}")
        return task_id

    def listed(self) -> list[Seen]:
        """Return the tasks of all listings; one that has just moved may appear twice."""
        return [seen for listing in LISTINGS for seen in self._listing(listing)]

    def is_up(self) -> bool:
        """Return whether the server answers."""
        if self.process.poll() is not None:
            raise DemoError(f"the server ended with status {self.process.returncode}")
        try:
            return self._ask("GET", "/healthz")[0] == 200  # noqa: PLR2004 - OK
        except (OSError, HTTPException):
            return False

    def _listing(self, listing: str) -> Iterator[Seen]:
        status, _, answer = self._ask("GET", f"/{listing}")
        if status != 200:  # noqa: PLR2004 - OK
            raise DemoError(f"GET /{listing} was answered with {status}")
        for task in json.loads(answer)["tasks"]:
            yield Seen(
                id=task["id"],
                path="/" + task["url"].split("/", 3)[3],
                listing=listing,
                tries=task["tries"],
                schedule=task["schedule"],
                next_run=task["next_run"],
                status=task["last_error_status_code"],
                error=base64.b64decode(task["last_error_body"] or "").decode(),
            )

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, str, bytes]:
        connection = HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, answer.getheader("Poussetaches-Task-ID", ""), answer.read()
        finally:
            connection.close()


@contextmanager
def application() -> Iterator[str]:
    """Run the example application; yield its address."""
    app = ThreadingHTTPServer((HOST, 0), Tasks)
    thread = threading.Thread(target=app.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://{HOST}:{app.server_port}"
    finally:
        app.shutdown()
        thread.join()
        app.server_close()


@contextmanager
def poussetaches(folder: Path) -> Iterator[Server]:
    """Run a server with its data in a folder, until SIGTERM ends it."""
    port, log = free_port(), folder / "server.log"
    settings = {
        name: value for name, value in os.environ.items() if not name.startswith("POUSSETACHES_")
    }
    settings |= {**RETRIES, "POUSSETACHES_AUTH_KEY": KEY}
    command = [sys.executable, "-m", "poussetaches", "serve", "--host", HOST, "--port", str(port)]
    command += ["--data-dir", str(folder / "data")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,  # Ctrl-C is for this process, which stops the server in order
        )
    try:
        server = Server(port, log, process)
        wait_for(server)
        yield server
    except (DemoError, OSError) as exc:
        raise DemoError(f"{exc}\nthe end of the server's log:\n{last_lines(log)}") from exc
    finally:
        stop(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(server: Server) -> None:
    deadline = time.monotonic() + START_LIMIT
    while not server.is_up():
        if time.monotonic() > deadline:
            raise DemoError(f"the server did not answer within {START_LIMIT:.0f} s")
        time.sleep(0.05)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise DemoError(f"the server did not stop within {STOP_LIMIT:.0f} s") from None


def last_lines(log: Path) -> str:
    return "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-15:])


def refresh(rows: list[Row], listed: list[Seen]) -> None:
    """Update each row from the listings."""
    by_id = {seen.id: seen for seen in listed}
    for row in rows:
        row.now = by_id.get(row.id)
        if row.plan.schedule:
            row.runs = sum(
                seen.listing == "success" and seen.path == row.plan.path for seen in by_id.values()
            )


def watch(server: Server, rows: list[Row], show: Callable[[], None]) -> None:
    """Show the tasks until all have reached their expected ends."""
    deadline = time.monotonic() + LIMIT
    while True:
        refresh(rows, server.listed())
        show()
        missing = [row for row in rows if not row.plan.done(row)]
        if not missing:
            return
        if time.monotonic() > deadline:
            raise DemoError(
                f"after {LIMIT:.0f} s not everything is as it should be:\n"
                + "\n".join(
                    f"  {row.plan.name} {row.plan.about}, but: {row.describe()}" for row in missing
                )
            )
        time.sleep(POLL_INTERVAL)


def watch_in_table(console: Console, server: Server, rows: list[Row]) -> None:
    with Live(table(rows), console=console, auto_refresh=False) as live:
        watch(server, rows, lambda: live.update(table(rows), refresh=True))


def table(rows: list[Row]) -> Table:
    result = Table("task", "what it does", "what the server says", "next attempt in")
    for row in rows:
        style = {"success": "green", "dead": "red"}.get(row.now.listing if row.now else "", "")
        if row.now is not None and row.now.listing == "waiting" and row.now.error:
            style = "yellow"
        result.add_row(
            row.plan.name, row.plan.about, Text(row.describe(), style=style), row.countdown
        )
    return result


def watch_in_lines(console: Console, server: Server, rows: list[Row]) -> None:
    started, told_last = time.monotonic(), dict[str, str]()

    def show() -> None:
        for row in rows:
            news = row.describe()
            if told_last.get(row.id) == news:
                continue
            told_last[row.id] = news
            countdown = f" (next attempt in {row.countdown})" if row.countdown else ""
            passed = time.monotonic() - started
            say(console, f"{passed:5.1f} s  {row.plan.name:14} {news}{countdown}")

    watch(server, rows, show)


def say(console: Console, text: str = "") -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def summarize(console: Console, rows: list[Row]) -> None:
    say(console, f"\nAll {len(rows)} tasks are as they should be:")
    for row in rows:
        say(console, f"  {row.plan.name:14} {row.describe()}")


def suggest(console: Console, server: Server, url: str, *, keep: bool) -> None:
    """Print commands to try next."""
    address = f"http://{HOST}:{server.port if keep else 7991}"
    if keep:
        start = [f"tail -f {server.log}"]
        pushed = {"url": url + PLANS[0].path, "json": {"address": "a@b"}}
    else:
        command = Path(sys.executable).parent / "poussetaches"
        start = [
            "make demo KEEP=1    # the same, and server and application stay up",
            f"{command} run -- flask --app app run    # with the app.py of README.md, and then:",
        ]
        pushed = {"url": "/tasks/hello", "json": {"name": "Ada"}}
    again = json.dumps({"filter": {"state": "dead"}, "set": {"timeout": 10}})
    say(console, "\nWhat to try next:")
    for line in (
        *start,
        f"curl -i {address}/v1/tasks -d '{json.dumps(pushed)}'",
        f"curl '{address}/v1/tasks?state=waiting'    # or running, succeeded, dead",
        f"curl {address}/v1/failures    # what is dead, by its cause",
        f"curl {address}/v1/tasks/requeue -d '{again}'    # and once more",
        f"curl -X POST {address}/v1/pause    # and /v1/resume",
        "less examples/flask_app/README.md    # a Flask application with background tasks",
    ):
        say(console, f"  {line}")


def keep_running(console: Console, server: Server) -> None:
    """Wait for a signal, or for the end of the server."""
    say(
        console,
        f"\nServer (http://{HOST}:{server.port}) and application keep running."
        f" Stop both with Ctrl-C, or with: kill {os.getpid()}",
    )
    # Short waits: a signal just before a wait is handled only after it.
    while server.process.poll() is None:
        time.sleep(POLL_INTERVAL)
    raise DemoError(f"the server ended with status {server.process.returncode}")


def demonstrate(console: Console, *, keep: bool) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="poussetaches-demo-") as folder,
        application() as url,
        poussetaches(Path(folder)) as server,
    ):
        say(
            console,
            f"The server listens on http://{HOST}:{server.port}, the application on {url}.",
        )
        rows = [Row(plan, server.push(url, plan)) for plan in PLANS]
        if console.is_terminal:
            watch_in_table(console, server, rows)
        else:
            for plan in PLANS:
                say(console, f"pushed   {plan.name:14} {plan.about}")
            watch_in_lines(console, server, rows)
        summarize(console, rows)
        suggest(console, server, url, keep=keep)
        if keep:
            keep_running(console, server)


def exit_on_signal(number: int, frame: FrameType | None) -> None:
    # Raise an exception, so that the server and the application are stopped.
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave the server running at the end")
    keep: bool = parser.parse_args().keep
    console = Console()
    signal.signal(signal.SIGTERM, exit_on_signal)
    try:
        demonstrate(console, keep=keep)
    except KeyboardInterrupt:
        say(console, "\nStopped the server and the application.")
        return 0 if keep else 130
    except (DemoError, OSError) as exc:
        sys.stderr.write(f"demo: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
