"""What `poussetaches run` says of a command's workers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from poussetaches.cli.workers import Workers, worker_warnings, workers_of

FULL = "tasks can occupy every worker of the application"
KILLED = "gunicorn kills its worker before the timeout of tasks"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a gunicorn.conf.py."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "environ", "workers"),
    [
        ("gunicorn app:app", {}, Workers(1, 30)),
        ("gunicorn -w 3 app:app", {}, Workers(3, 30)),
        ("gunicorn -w3 --timeout=120 app:app", {}, Workers(3, 120)),
        ("gunicorn -t 0 app:app", {}, Workers(1)),
        ("gunicorn app:app", {"WEB_CONCURRENCY": "4"}, Workers(4, 30)),
        ("gunicorn app:app", {"GUNICORN_CMD_ARGS": "-w 2 --threads 4"}, Workers(8)),
        ("gunicorn --threads 8 app:app", {}, Workers(8)),
        ("gunicorn -k gthread app:app", {}, Workers(1)),
        ("python -m gunicorn -w 2 --threads 8 app:app", {}, Workers(16)),
        ("waitress-serve app:app", {}, Workers(4)),
        ("waitress-serve --threads=16 app:app", {}, Workers(16)),
        ("flask run --without-threads", {}, Workers(1)),
        ("python manage.py runserver --nothreading", {}, Workers(1)),
    ],
)
def test_command_tells_its_workers(
    command: str, environ: Mapping[str, str], workers: Workers
) -> None:
    assert workers_of(shlex.split(command), environ) == workers


@pytest.mark.parametrize(
    "command",
    [
        "gunicorn -k gevent app:app",
        "gunicorn -k uvicorn.workers.UvicornWorker app:app",
        "gunicorn -c conf.py app:app",
        "gunicorn -w many app:app",
        "uvicorn app:app",
        "flask run",
        "python manage.py runserver",
        "python app.py",
    ],
)
def test_workers_that_are_unlimited_or_unknown_are_not_guessed(command: str) -> None:
    assert workers_of(shlex.split(command), {}) is None


@pytest.mark.parametrize(
    ("command", "shared", "events"),
    [
        pytest.param("gunicorn app:app", True, [FULL, KILLED], id="one sync worker"),
        pytest.param("gunicorn -w 4 -t 600 app:app", True, [FULL], id="none left for visitors"),
        pytest.param("gunicorn -w 5 -t 600 app:app", True, [], id="one left for visitors"),
        pytest.param("gunicorn -w 4 -t 600 app:app", False, [], id="tasks alone"),
        pytest.param("gunicorn -w 3 -t 600 app:app", False, [FULL], id="tasks alone, too few"),
        pytest.param("gunicorn --threads 8 app:app", True, [], id="threads"),
    ],
)
def test_too_few_workers_and_short_timeouts_are_warned_of(
    command: str, shared: bool, events: list[str]
) -> None:
    found = worker_warnings(shlex.split(command), {}, concurrency=4, timeout=600.0, shared=shared)

    assert [warning.event for warning in found] == events
