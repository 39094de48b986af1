"""The example Django project, started as its README says, and a client's requests."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.acceptance.harness import PATIENCE, free_port, wait_until
from tests.acceptance.test_run import Run

FOLDER = Path(__file__).parents[2] / "examples" / "django_app"
MANAGE = [sys.executable, str(FOLDER / "manage.py")]


@dataclass(frozen=True)
class Gallery:
    """The running project, and the server beside it."""

    port: int
    folder: Path
    server: Run

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Make a request; return status and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: bytes = b"") -> dict[str, Any]:
        """Send a request that is accepted; return its answer."""
        status, answer = self.ask("POST", path, body)
        assert status == 202, answer
        found: dict[str, Any] = json.loads(answer)
        return found

    def tasks(self, name: str) -> list[dict[str, Any]]:
        """Return the tasks of one function that have ended."""
        path = f"/v1/tasks?url=/_poussetaches/gallery.tasks.{name}&state=succeeded,dead"
        found: list[dict[str, Any]] = self.server.request("GET", path).json["tasks"]
        return found

    def mails(self, text: str) -> list[str]:
        """Return the mails that have a text."""
        files = (self.folder / "mails").glob("*")
        return [mail for mail in (file.read_text() for file in files) if text in mail]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    folder = tmp_path_factory.mktemp("gallery")
    port, variables = free_port(), {"GALLERY_FOLDER": str(folder)}
    subprocess.run([*MANAGE, "migrate", "-v0"], env={**os.environ, **variables}, check=True)
    # As the README starts it, but from another folder and at a free port.
    run = Run(folder / "data", [*MANAGE, "runserver", "--noreload", str(port)], env=variables)
    try:
        run.start()
        run.wait_for_line("application answers")
        yield Gallery(port, folder, run)
        run.stop()
    finally:
        run.close()


def test_member_who_signs_up_twice_gets_one_mail(gallery: Gallery) -> None:
    first, again = (gallery.post("/sign-up", b"email=ada@example.org") for _ in range(2))

    assert first == again
    wait_until(lambda: gallery.tasks("send_welcome"), bool, "the welcome")
    assert len(gallery.mails("To: ada@example.org")) == 1


def test_picture_becomes_a_thumbnail(gallery: Gallery) -> None:
    content = io.BytesIO()
    Image.new("RGBA", (600, 300), "red").save(content, "PNG")

    picture = gallery.post("/pictures", content.getvalue())["picture"]

    def look() -> tuple[int, bytes]:
        return gallery.ask("GET", f"/pictures/{picture}")

    _, body = wait_until(look, lambda answer: answer[0] == 200, "the thumbnail")
    with Image.open(io.BytesIO(body)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (128, 64))


def test_invalid_picture_is_not_retried(gallery: Gallery) -> None:
    picture = gallery.post("/pictures", b"GIF, but not really")["picture"]

    def dead() -> list[dict[str, Any]]:
        return [task for task in gallery.tasks("make_thumbnail") if task["state"] == "dead"]

    [task] = wait_until(dead, bool, "the task to die")
    assert (task["attempt_count"], task["reason"]) == (1, "refused")
    assert task["last_error"] == f"picture {picture} is no image"
    assert gallery.ask("GET", f"/pictures/{picture}")[0] == 404


def test_printer_gets_every_order(gallery: Gallery) -> None:
    pictures = [gallery.post("/pictures", b"x")["picture"] for _ in range(3)]

    for picture in pictures:
        gallery.post(f"/pictures/{picture}/print")

    ended = wait_until(
        lambda: gallery.tasks("order_print"), lambda it: len(it) == len(pictures), "the prints"
    )
    assert {task["state"] for task in ended} == {"succeeded"}
    assert gallery.server.request("GET", "/v1/queues/printer").json["rate"] == 2


def test_nightly_report_is_scheduled_and_can_be_run_now(gallery: Gallery) -> None:
    def schedules() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = gallery.server.request("GET", "/v1/schedules").json[
            "schedules"
        ]
        return found

    [schedule] = wait_until(schedules, bool, "the schedule to be declared")
    gallery.server.request("POST", f"/v1/schedules/{schedule['name']}/run")

    assert (schedule["name"], schedule["cron"]) == ("gallery.tasks.nightly_report", "0 3 * * *")
    [report] = wait_until(lambda: gallery.mails("Subject: Report"), bool, "the report")
    assert re.search(r"^\d+ members so far\.$", report, re.MULTILINE)


def test_task_called_without_the_key_is_refused(gallery: Gallery) -> None:
    assert gallery.ask("POST", "/_poussetaches/gallery.tasks.nightly_report")[0] == 401
