"""Reads from a command how many requests its server handles at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from poussetaches.cli.bind import (
    Arguments,
    Environ,
    gunicorn_arguments,
    has_gunicorn_file,
    program_in,
    value_of,
)
from poussetaches.server.workers import Workers

GUNICORN_TIMEOUT = 30  # seconds; gunicorn's default
WAITRESS_THREADS = 4  # waitress's default
THREADED_CLASSES = ("sync", "gthread")


def workers_of(command: Arguments, environ: Environ) -> Workers | None:
    """Return a server's workers; None when they are unlimited or unknown."""
    program, arguments = program_in(command, READERS)
    return None if program is None else READERS[program](arguments, environ)


def gunicorn(arguments: Arguments, environ: Environ) -> Workers | None:
    given = gunicorn_arguments(arguments, environ)
    if has_gunicorn_file(given):
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
    """Return a number given as text, None if it is not one; ``default`` without a text."""
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
