"""The workers that `poussetaches run` reads from a command, and its warnings about them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from poussetaches.cli.app_workers import workers_of
from poussetaches.core.queue import QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.engine.queues import Queues
from poussetaches.server.worker_count import Workers, queues_to, worker_warnings
from tests.factories import make_queue

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
        ("gunicorn -Rw3 --timeo 120 app:app", {}, Workers(3, 120)),
        ("gunicorn -t 0 app:app", {}, Workers(1)),
        ("gunicorn app:app", {"WEB_CONCURRENCY": "4"}, Workers(4, 30)),
        ("gunicorn app:app", {"GUNICORN_CMD_ARGS": "-w 2 --threads 4"}, Workers(8)),
        ("gunicorn --threads 8 app:app", {}, Workers(8)),
        ("gunicorn --thr 8 app:app", {}, Workers(8)),
        ("gunicorn -k gthread app:app", {}, Workers(1)),
        ("python -m gunicorn -w 2 --threads 8 app:app", {}, Workers(16)),
        ("waitress-serve app:app", {}, Workers(4)),
        ("waitress-serve --threads=16 app:app", {}, Workers(16)),
        ("waitress-serve --th=16 app:app", {}, Workers(16)),
        ("flask run --without-threads", {}, Workers(1)),
        ("python manage.py runserver --nothreading", {}, Workers(1)),
        ("python manage.py runserver --noth", {}, Workers(1)),
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
        "gunicorn --conf conf.py app:app",
        "gunicorn -w many app:app",
        f"gunicorn -w {'9' * 5000} app:app",  # more digits than Python converts
        "uvicorn app:app",
        "flask run",
        "python manage.py runserver",
        "python app.py",
    ],
)
def test_workers_that_are_unlimited_or_unknown_are_not_guessed(command: str) -> None:
    assert workers_of(shlex.split(command), {}) is None


FOUR = QueueSettings(concurrency=4)
MANY = QueueSettings(concurrency=100)


@pytest.mark.parametrize(
    ("capacity", "shared", "queues", "slots"),
    [
        pytest.param(4, True, [FOUR], 4, id="none-left-for-visitors"),
        pytest.param(5, True, [FOUR], None, id="one-left-for-visitors"),
        pytest.param(4, False, [FOUR], None, id="tasks-alone"),
        pytest.param(3, False, [FOUR], 4, id="tasks-alone-and-too-few"),
        pytest.param(8, True, [FOUR, FOUR], 8, id="queues-are-added-up"),
        pytest.param(9, True, [FOUR, FOUR], None, id="enough-for-two-queues"),
        pytest.param(256, True, [MANY, MANY, MANY], 256, id="never-more-than-max-in-flight"),
        pytest.param(
            3, True, [QueueSettings(concurrency=4, origin_concurrency=2)], None, id="per-origin"
        ),
        pytest.param(1, True, [], None, id="no-queue-leads-there"),
    ],
)
def test_too_few_workers_for_the_slots_of_the_queues_are_warned_about(
    capacity: int, shared: bool, queues: Sequence[QueueSettings], slots: int | None
) -> None:
    found = worker_warnings(Workers(capacity), queues, max_in_flight=256, shared=shared)

    assert [(event, fields["workers"], fields["slots"]) for event, fields in found] == (
        [] if slots is None else [(FULL, capacity, slots)]
    )


URL = "http://127.0.0.1:8000"
SERVER = QueueSettings(base_url=URL)


@pytest.mark.parametrize(
    ("used", "of_mail", "slots"),
    [
        pytest.param([], {}, [2, 3], id="none"),
        pytest.param(["mail", "callbacks"], {}, [2, 3, 4], id="used-by-the-code"),
        pytest.param([], {"on_dead": "/failed"}, [2, 3, 4], id="path-of-a-queue"),
        pytest.param([], {"on_success": f"{URL}/done"}, [2, 3, 4], id="same-origin"),
        pytest.param([], {"on_success": "http://log/"}, [2, 3], id="elsewhere"),
        pytest.param(["mail"], {"base_url": "http://mail/"}, [3], id="queue-of-another-origin"),
    ],
)
def test_queues_that_do_not_exist_yet_count(
    used: Sequence[str], of_mail: Mapping[str, object], slots: list[int]
) -> None:
    queues = Queues(SERVER, original_retry=RetryPolicy())
    mail = make_queue("mail", paused=False, concurrency=2, **of_mail)
    queues.update({"mail": mail, "reports": make_queue("reports", concurrency=3)})

    found = queues_to(URL, queues, used=used)

    assert sorted(each.concurrency for each in found) == slots


@pytest.mark.parametrize("shared", [True, False])
def test_advice_names_a_second_process_unless_there_is_one(shared: bool) -> None:
    [(_, fields)] = worker_warnings(Workers(1), [FOUR], max_in_flight=256, shared=shared)

    assert ("--tasks" in str(fields["advice"])) == shared
    assert f"at least {5 if shared else 4} workers" in str(fields["advice"])


@pytest.mark.parametrize(
    ("timeout", "of_queues", "events"),
    [
        pytest.param(30, [600.0], [KILLED], id="shorter"),
        pytest.param(30, [10.0, 60.0], [KILLED], id="shorter-than-that-of-one-queue"),
        pytest.param(60, [10.0, 60.0], [], id="as-long"),
        pytest.param(None, [600.0], [], id="no-limit"),
    ],
)
def test_gunicorn_timeout_that_is_shorter_than_that_of_tasks_is_warned_about(
    timeout: float | None, of_queues: Sequence[float], events: list[str]
) -> None:
    queues = [QueueSettings(timeout=each) for each in of_queues]

    found = worker_warnings(Workers(100, timeout), queues, max_in_flight=256, shared=True)

    assert [event for event, _ in found] == events
