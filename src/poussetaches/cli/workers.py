"""How many requests a command's server handles at once, and whether that leaves room for tasks."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from poussetaches.cli.bind import value_of

Arguments = Sequence[str]
Environ = Mapping[str, str]

GUNICORN_TIMEOUT = 30  # seconds; gunicorn's default
WAITRESS_THREADS = 4  # waitress's default
THREADED_CLASSES = ("sync", "gthread")


@dataclass(frozen=True)
class Workers:
    """The requests that a server handles at once, and how long one may take, in seconds."""

    capacity: int
    timeout: float | None = None  # None without a limit


@dataclass(frozen=True)
class WorkerWarning:
    """A log event with its fields."""

    event: str
    fields: Mapping[str, object]


def worker_warnings(
    command: Arguments, environ: Environ, *, concurrency: int, timeout: float, shared: bool
) -> list[WorkerWarning]:
    """Return what will go wrong when tasks are delivered to a command's server.

    ``shared`` says whether the same server also handles the application's other requests.
    """
    workers = workers_of(command, environ)
    if workers is None:
        return []
    found: list[WorkerWarning] = []
    if workers.capacity < concurrency + shared:
        found.append(
            WorkerWarning(
                "tasks can occupy every worker of the application",
                {
                    "workers": workers.capacity,
                    "concurrency": concurrency,
                    "advice": "start more workers or threads (gunicorn --threads 8), lower"
                    " --concurrency, or start a process for tasks alone with --tasks",
                },
            )
        )
    if workers.timeout is not None and workers.timeout < timeout:
        found.append(
            WorkerWarning(
                "gunicorn kills its worker before the timeout of tasks",
                {
                    "gunicorn_timeout": workers.timeout,
                    "timeout": timeout,
                    "advice": "give gunicorn --threads 8 (threads are not killed) or a longer"
                    " --timeout, or lower the --timeout of tasks",
                },
            )
        )
    return found


def workers_of(command: Arguments, environ: Environ) -> Workers | None:
    """Return a server's workers; None when they are unlimited or unknown."""
    for place, word in enumerate(command):
        reader = READERS.get(PurePath(word).name)
        if reader is not None:
            return reader(command[place + 1 :], environ)
    return None


def gunicorn(arguments: Arguments, environ: Environ) -> Workers | None:
    given = [*shlex.split(environ.get("GUNICORN_CMD_ARGS", "")), *arguments]
    # A configuration file is Python and may set anything.
    if value_of(given, "-c", "--config") or Path("gunicorn.conf.py").exists():
        return None
    worker_class = value_of(given, "-k", "--worker-class") or "sync"
    if worker_class not in THREADED_CLASSES:
        return None
    processes = _number(value_of(given, "-w", "--workers") or environ.get("WEB_CONCURRENCY"), 1)
    threads = _number(value_of(given, "--threads"), 1)
    if processes is None or threads is None:
        return None
    # Workers with threads report to their parent while a request runs; others are killed.
    if worker_class == "gthread" or threads > 1:
        return Workers(processes * threads)
    timeout = _number(value_of(given, "-t", "--timeout"), GUNICORN_TIMEOUT)
    return Workers(processes, timeout or None)  # 0 is no limit


def waitress(arguments: Arguments, _: Environ) -> Workers | None:
    threads = _number(value_of(arguments, "--threads"), WAITRESS_THREADS)
    return None if threads is None else Workers(threads)


def flask(arguments: Arguments, _: Environ) -> Workers | None:
    return Workers(1) if "--without-threads" in arguments else None


def django(arguments: Arguments, _: Environ) -> Workers | None:
    return Workers(1) if "--nothreading" in arguments else None


def _number(text: str | None, default: int) -> int | None:
    """Return a number given as text; None for anything else than a number."""
    if text is None:
        return default
    return int(text) if text.isdecimal() else None


READERS: Mapping[str, Callable[[Arguments, Environ], Workers | None]] = {
    "gunicorn": gunicorn,
    "waitress-serve": waitress,
    "flask": flask,
    "manage.py": django,
    "django-admin": django,
}
