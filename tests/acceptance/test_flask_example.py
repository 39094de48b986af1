"""The example Flask application, started as its README says, and a browser's requests."""

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
from urllib.parse import urlencode

import pytest
from PIL import Image
from werkzeug.test import EnvironBuilder

from tests.acceptance.harness import KEY, PATIENCE, free_port, wait_until
from tests.acceptance.test_run import Run

FOLDER = Path(__file__).parents[2] / "examples" / "flask_app"
TASK = "/_poussetaches/club.tasks.send_welcome"


@dataclass(frozen=True)
class Page:
    """A response of the application."""

    status: int
    location: str
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


@dataclass(frozen=True)
class Site:
    """The running application, and the server beside it."""

    port: int
    folder: Path
    server: Run

    def get(self, path: str) -> Page:
        """Open a page."""
        return self._ask("GET", path, b"", {})

    def sign_up(self, address: str) -> Page:
        """Send the form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", "/sign-up", urlencode({"address": address}).encode(), headers)

    def send_portrait(self, content: bytes) -> Page:
        """Send the other form."""
        form = EnvironBuilder(method="POST", data={"portrait": (io.BytesIO(content), "me.png")})
        environ = form.get_environ()
        body = environ["wsgi.input"].read()
        form.close()
        return self._ask("POST", "/portraits", body, {"Content-Type": environ["CONTENT_TYPE"]})

    def call_task(self, address: str, key: str | None) -> Page:
        """Call the welcome task's route without the key."""
        headers = {} if key is None else {"Poussetaches-Auth-Key": key}
        return self._ask("POST", TASK, json.dumps({"address": address}).encode(), headers)

    def done(self, location: str, says: str = "It was done") -> Page:
        """Reload a progress page until it has a text."""
        return wait_until(lambda: self.get(location), lambda page: says in page.text, says)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of one of its files."""
        file = self.folder / name
        return [json.loads(it) for it in file.read_text().splitlines()] if file.exists() else []

    def mails_to(self, address: str) -> list[str]:
        """Return the texts that an address was sent."""
        return [mail["text"] for mail in self.lines("outbox.jsonl") if mail["to"] == address]

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Page:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Page(answer.status, answer.getheader("Location", ""), answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("club")
    port = free_port()
    # As the README starts it, but from another folder and at a free port.
    command = [sys.executable, "-m", "flask", "--app", str(FOLDER / "club"), "run"]
    run = Run(
        folder / "data",
        [*command, "--port", str(port)],
        env={"CLUB_FOLDER": str(folder), "POUSSETACHES_AUTH_KEY": KEY},
    )
    try:
        run.start()
        run.wait_for_line("application answers")
        yield Site(port, folder, run)
        run.stop()
    finally:
        run.close()


def picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGBA", (600, 300), "red").save(content, "PNG")
    return content.getvalue()


def test_reader_who_signs_up_twice_gets_one_welcome_mail_in_the_background(site: Site) -> None:
    assert 'name="address"' in site.get("/").text

    first, again = (site.sign_up(" Ada@example.org") for _ in range(2))

    assert first.status == 303
    assert first.location == again.location
    assert "at attempt 1" in site.done(first.location).text
    assert site.mails_to("ada@example.org") == ["Welcome!"]


def test_invalid_address_is_refused(site: Site) -> None:
    assert site.sign_up("nobody").status == 400
    assert site.sign_up("x" * 150 + "@example.org").status == 400


def test_portrait_becomes_a_thumbnail(site: Site) -> None:
    page = site.done(site.send_portrait(picture()).location)
    source = re.search(r'src="([^"]+)"', page.text)
    assert source is not None

    with Image.open(io.BytesIO(site.get(source[1]).body)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (128, 64))


def test_invalid_image_is_not_retried(site: Site) -> None:
    page = site.done(site.send_portrait(b"GIF, but not really").location, "It could not be done")

    assert "after 1 attempts" in page.text
    assert ".upload is no image" in page.text


def test_newsletter_gets_every_reader_at_its_allowed_rate(site: Site) -> None:
    addresses = {f"reader{number}@example.org" for number in range(3)}
    for address in addresses:
        site.sign_up(address)

    def readers() -> set[str]:
        return {call["address"] for call in site.lines("newsletter.jsonl")}

    wait_until(readers, addresses.__le__, "the newsletter to get all readers")
    assert site.server.request("GET", "/v1/queues/newsletter").json["rate"] == 2


def test_nightly_report_is_scheduled_and_can_be_run_now(site: Site) -> None:
    name = "club.tasks.nightly_report"

    def schedules() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = site.server.request("GET", "/v1/schedules").json["schedules"]
        return found

    [schedule] = wait_until(schedules, bool, "the schedule to be declared")
    site.server.request("POST", f"/v1/schedules/{name}/run")

    assert (schedule["name"], schedule["cron"]) == (name, "0 3 * * *")
    (report,) = wait_until(lambda: site.mails_to("board@club.example"), bool, "the report")
    assert re.fullmatch(r"The club has \d+ members\.", report)


def test_progress_page_shows_a_waiting_task(site: Site) -> None:
    site.server.request("POST", "/pause")
    try:
        page = site.get(site.sign_up("grace@example.org").location)
    finally:
        site.server.request("POST", "/resume")

    assert "on its way; attempts made so far: 0" in page.text
    assert site.get("/progress/0123").status == 404


def test_admin_page_shows_queues_and_tasks(site: Site) -> None:
    site.done(site.sign_up("alan@example.org").location)

    page = site.get("/admin").text

    assert "<td>newsletter</td>" in page
    assert "club.tasks.send_welcome" in page


@pytest.mark.parametrize("key", [None, "", "wrong", KEY + "x", "cl\xe9"])
def test_task_called_without_the_key_is_refused(site: Site, key: str | None) -> None:
    assert site.call_task("eve@example.org", key).status == 401
    assert site.mails_to("eve@example.org") == []


def test_repeated_attempt_sends_no_second_mail(site: Site) -> None:
    answers = [site.call_task("bob@example.org", KEY).status for _ in range(2)]

    assert answers == [200, 200]
    assert site.mails_to("bob@example.org") == ["Welcome!"]
