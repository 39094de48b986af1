"""The number of concurrent requests that an application server handles, from its command."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from poussetaches.cli.app_address import has_gunicorn_file
from poussetaches.cli.app_command import Environ, Options, server_in
from poussetaches.server.worker_count import Workers

GUNICORN_TIMEOUT = 30  # seconds; gunicorn's default
WAITRESS_THREADS = 4  # waitress's default
THREADED_CLASSES = ("sync", "gthread")


def workers_of(command: Sequence[str], environ: Environ) -> Workers | None:
    """Return the workers of a server; None if they are unlimited or unknown.

    Raises:
        SettingsError: the server cannot read its environment.
    """
    server = server_in(command, environ)
    if server is None or server.program not in READERS:
        return None
    return READERS[server.program](server.options, server.environ)


def gunicorn(options: Options, environ: Environ) -> Workers | None:
    if has_gunicorn_file(options):
        return None
    worker_class = options.get("worker_class", "sync")
    if worker_class not in THREADED_CLASSES:
        return None
    processes = _number(options.get("workers") or environ.get("WEB_CONCURRENCY"), 1)
    threads = _number(options.get("threads"), 1)
    if processes is None or threads is None:
        return None
    # Workers with threads report to their parent while a request runs; others are killed.
    if worker_class == "gthread" or threads > 1:
        return Workers(processes * threads)
    timeout = _number(options.get("timeout"), GUNICORN_TIMEOUT)
    return Workers(processes, timeout or None)  # 0 is no limit


def waitress(options: Options, _: Environ) -> Workers | None:
    threads = _number(options.get("threads"), WAITRESS_THREADS)
    return None if threads is None else Workers(threads)


def flask(options: Options, _: Environ) -> Workers | None:
    return Workers(1) if "without_threads" in options else None


def django(options: Options, _: Environ) -> Workers | None:
    return Workers(1) if "nothreading" in options else None


def _number(text: str | None, default: int) -> int | None:
    """Return the number in a text, None if it is not a number; ``default`` if there is no text."""
    if text is None:
        return default
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


READERS: Mapping[str, Callable[[Options, Environ], Workers | None]] = {
    "gunicorn": gunicorn,
    "waitress-serve": waitress,
    "flask": flask,
    "manage.py": django,
    "django-admin": django,
}
