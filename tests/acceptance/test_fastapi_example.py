"""The example FastAPI application, started as its README says, and a client's requests."""

from __future__ import annotations

import io
import json
import re
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

FOLDER = Path(__file__).parents[2] / "examples" / "fastapi_app"


@dataclass(frozen=True)
class Studio:
    """The running application, and the server beside it."""

    port: int
    folder: Path
    server: Run

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Make a request; return status and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
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

    def ended(self, task_id: str) -> dict[str, Any]:
        """Wait for a task's end; return its progress."""

        def progress() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(self.ask("GET", f"/tasks/{task_id}")[1])
            return found

        return wait_until(progress, lambda it: it["state"] in ("succeeded", "dead"), "the end")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of one of its files."""
        file = self.folder / name
        return [json.loads(it) for it in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio")
    port = free_port()
    # As the README starts it, but from another folder and at a free port.
    command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(FOLDER)]
    run = Run(folder / "data", [*command, "--port", str(port)], env={"STUDIO_FOLDER": str(folder)})
    try:
        run.start()
        run.wait_for_line("application answers")
        yield Studio(port, folder, run)
        run.stop()
    finally:
        run.close()


def test_customer_who_signs_up_twice_gets_one_mail(studio: Studio) -> None:
    body = b'{"email": "ada@example.org", "name": "Ada"}'

    first, again = (studio.post("/customers", body) for _ in range(2))

    assert first == again
    assert studio.ended(first["task"]) == {"state": "succeeded", "attempts": 1, "error": None}
    mails = [it["text"] for it in studio.lines("outbox.jsonl") if it["to"] == "ada@example.org"]
    assert mails == ["Welcome, Ada!"]


def test_photo_becomes_a_thumbnail(studio: Studio) -> None:
    content = io.BytesIO()
    Image.new("RGBA", (600, 300), "red").save(content, "PNG")

    pushed = studio.post("/photos", content.getvalue())

    assert studio.ended(pushed["task"])["state"] == "succeeded"
    with Image.open(io.BytesIO(studio.ask("GET", f"/photos/{pushed['photo']}")[1])) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (128, 64))


def test_invalid_photo_is_not_retried(studio: Studio) -> None:
    pushed = studio.post("/photos", b"GIF, but not really")

    ended = studio.ended(pushed["task"])

    assert (ended["state"], ended["attempts"]) == ("dead", 1)
    assert ended["error"].endswith("is no image")
    assert studio.ask("GET", f"/photos/{pushed['photo']}")[0] == 404


def test_courier_gets_every_order_at_its_allowed_rate(studio: Studio) -> None:
    pushed = [studio.post(f"/orders/{number}") for number in range(4)]

    assert {studio.ended(it["task"])["state"] for it in pushed} == {"succeeded"}
    parcels = studio.lines("courier.jsonl")
    seconds = [parcel["second"] for parcel in parcels]
    assert sorted(parcel["order"] for parcel in parcels) == [0, 1, 2, 3]
    assert max(seconds.count(second) for second in seconds) <= 2
    assert studio.server.request("GET", "/v1/queues/courier").json["rate"] == 2


def test_nightly_report_is_scheduled_and_can_be_run_now(studio: Studio) -> None:
    def schedules() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = studio.server.request("GET", "/v1/schedules").json[
            "schedules"
        ]
        return found

    def reports() -> list[str]:
        lines = studio.lines("outbox.jsonl")
        return [it["text"] for it in lines if it["to"] == "studio@studio.example"]

    [schedule] = wait_until(schedules, bool, "the schedule to be declared")
    studio.server.request("POST", "/v1/schedules/app.nightly_report/run")

    assert (schedule["name"], schedule["cron"]) == ("app.nightly_report", "0 3 * * *")
    [report] = wait_until(reports, bool, "the report")
    assert re.fullmatch(r"\d+ customers so far\.", report)


def test_unknown_task_has_no_progress(studio: Studio) -> None:
    assert studio.ask("GET", "/tasks/0123")[0] == 404
