"""The how-tos for FastAPI, Django and tests: quickstarts as a new user runs them, and all code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from poussetaches.testing import testing
from tests.acceptance.harness import free_port, receiving, serving
from tests.application import RecordingPusher, make_info
from tests.docs.shell import APPLICATION, DOCS, SERVER, code_blocks, execute, run_quickstart

HOWTO = DOCS / "howto"
FASTAPI = (HOWTO / "fastapi.md").read_text()
DJANGO = (HOWTO / "django.md").read_text()
TESTING = (HOWTO / "testing.md").read_text()
CALLBACKS = (HOWTO / "callbacks.md").read_text()
PYTHON = (DOCS / "python.md").read_text()
LONGEST_QUICKSTART = 15  # lines


@pytest.mark.parametrize("page", sorted(HOWTO.glob("*.md")), ids=lambda page: page.stem)
def test_page_begins_with_what_it_needs(page: Path) -> None:
    title, *rest = page.read_text().split("\n\n")

    assert title.startswith("# ")
    assert rest[0].startswith("```sh\npip install 'poussetaches-sidecar[server]' ")


def test_fastapi_quickstart_runs_as_it_is_printed(tmp_path: Path) -> None:
    app, *_ = code_blocks(FASTAPI, "python")
    _install, start, call, *_ = code_blocks(FASTAPI, "sh")
    (tmp_path / "app.py").write_text(app)

    port = free_port()
    run_quickstart(tmp_path, f"{start.strip()} --port {port}", call, port=port)

    assert len(app.splitlines()) <= LONGEST_QUICKSTART


def test_django_quickstart_runs_as_it_is_printed(tmp_path: Path) -> None:
    settings, tasks, urls, *_ = code_blocks(DJANGO, "python")
    _install, start, call, *_ = code_blocks(DJANGO, "sh")
    django = [sys.executable, "-m", "django", "startproject", "shop", "."]
    subprocess.run(django, cwd=tmp_path, check=True)
    with (tmp_path / "shop" / "settings.py").open("a") as file:
        file.write(settings)
    (tmp_path / "shop" / "tasks.py").write_text(tasks)
    (tmp_path / "shop" / "urls.py").write_text(urls)

    port = free_port()
    run_quickstart(tmp_path, f"{start.strip()} --noreload {port}", call, port=port)

    assert len((settings + tasks + urls).splitlines()) <= LONGEST_QUICKSTART


def test_other_code_about_fastapi_runs_after_it(page: ModuleType) -> None:
    for block in code_blocks(FASTAPI, "python"):
        execute(page, block)

    with page.tasks.use(RecordingPusher(make_info("task-1"))) as pusher:
        page.ship.push(7)
    del pusher

    assert list(page.tasks.queues) == ["orders"]
    assert list(page.tasks.schedules) == [page.morning.name]


def test_code_about_testing_passes(page: ModuleType) -> None:
    for block in code_blocks(TESTING, "python"):
        execute(page, block)

    page.test_sign_up_sends_a_mail()
    page.test_mail_is_sent_again_when_the_mail_server_is_away()
    page.test_report_has_the_name_of_the_task()
    case = page.SignUpTest()
    case.setUp()
    case.doCleanups()


def test_client_does_what_the_reference_shows(page: ModuleType, tmp_path: Path) -> None:
    (code,) = (block for block in code_blocks(PYTHON, "python") if "Client(" in block)

    with receiving() as application, serving(tmp_path / "data") as server:
        execute(page, code.replace(SERVER, server.url).replace(APPLICATION, application.url))

    assert page.task.state == "succeeded"
    assert page.dead == []


def test_callback_runs_as_its_page_shows(
    page: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = code_blocks(CALLBACKS, "python")
    execute(page, code)

    with testing(page.tasks, "run") as box:
        pushed = page.send_welcome.options(delay=60).push(42)
        box.client.cancel(pushed.id)
        box.run_until_idle()

    assert capsys.readouterr().out == f"{page.send_welcome.name} died (cancelled): None\n"
