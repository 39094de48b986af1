"""Declarations that the server refuses are reported by the log, ``run`` and ``check``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import ended, free_port
from tests.acceptance.test_run import Run

APP = """
import logging
import sys

from flask import Flask
from werkzeug.serving import make_server

from poussetaches.flask import Tasks

logging.basicConfig(level=logging.INFO)
app = Flask(__name__)
tasks = Tasks(app, name="shop")
tasks.queue("mail", rate="2/s")
tasks.queue("alerts", on_dead="http://192.0.2.1/alert")


@tasks.cron("@hourly", name="allowed")
def allowed() -> None: ...


@tasks.cron("@daily", name="refused", on_success="http://192.0.2.1/done")
def refused() -> None: ...


make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True).serve_forever()
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    script, port = tmp_path / "app.py", free_port()
    script.write_text(APP)
    flags = ("--base-url", f"http://127.0.0.1:{port}", "--allow-target", "127.0.0.1")
    run = Run(tmp_path / "data", [sys.executable, str(script), str(port)], *flags)
    try:
        run.start()
        yield run
    finally:
        run.close()


def test_refused_queue_and_schedule_are_named_and_others_are_declared(run: Run) -> None:
    run.wait_for_line("declaration refused .*schedule 'shop.refused'")

    checked = ended("check", env={"POUSSETACHES_URL": run.url})

    assert checked.returncode == 1
    [line] = checked.stderr.splitlines()
    for refusal in (
        "queue 'shop.alerts': on_dead: 192.0.2.1:80 is not an allowed target",
        "schedule 'shop.refused': task.on_success: 192.0.2.1:80 is not an allowed target",
    ):
        assert refusal in line
        assert run.logged(f"not declared: {refusal}")  # the application
        assert run.logged(f"declaration refused .*{refusal}")  # the server
    assert run.request("GET", "/v1/queues/shop.mail").json["rate"] == 2.0
    assert run.request("GET", "/v1/schedules/shop.allowed").status == 200
    assert run.request("GET", "/v1/schedules/shop.refused").status == 404
