"""The example Flask application, with a real server and a browser's requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.acceptance.harness import KEY, PATIENCE, Server, free_port, serving, wait_until

APP = Path(__file__).parents[2] / "examples" / "flask_app" / "app.py"
ENVELOPE = b'{"payload": "eyJhZGRyZXNzIjogImFAYiJ9", "tries": 1, "req_id": "0123456789ab"}'


@dataclass(frozen=True)
class Page:
    """What the application answered."""

    status: int
    location: str
    text: str


@dataclass(frozen=True)
class Site:
    """The running application, and the server that it pushes to."""

    port: int
    outbox: Path
    server: Server

    def get(self, path: str) -> Page:
        """Open a page."""
        return self._ask("GET", path, b"", {})

    def sign_up(self, address: str) -> Page:
        """Send the form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", "/sign-up", urlencode({"address": address}).encode(), headers)

    def call_task(self, key: str | None) -> Page:
        """Call the welcome task's route as anybody could."""
        headers = {} if key is None else {"Poussetaches-Auth-Key": key}
        return self._ask("POST", "/tasks/welcome", ENVELOPE, headers)

    def mails(self) -> list[dict[str, str]]:
        """Return what was sent."""
        if not self.outbox.exists():
            return []
        return [json.loads(line) for line in self.outbox.read_text().splitlines()]

    def is_up(self) -> bool:
        """Tell whether the application accepts connections."""
        try:
            self.get("/static/none")
        except OSError:
            return False
        return True

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Page:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Page(answer.status, answer.getheader("Location", ""), answer.read().decode())
        finally:
            connection.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path / "data") as server, (tmp_path / "flask.log").open("wb") as log:
        site = Site(free_port(), tmp_path / "outbox.jsonl", server)
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", str(APP), "run", "--port", str(site.port)],
            env=os.environ
            | {
                "POUSSETACHES_AUTH_KEY": KEY,
                "POUSSETACHES_URL": server.url,
                "OWN_URL": f"http://127.0.0.1:{site.port}",
                "OUTBOX": str(site.outbox),
            },
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(site.is_up, lambda up: up or process.poll() is not None, "Flask to listen")
            assert process.poll() is None, (tmp_path / "flask.log").read_text()
            yield site
        finally:
            process.terminate()
            process.wait(PATIENCE)


def test_who_signs_up_is_sent_a_welcome_mail_in_the_background(site: Site) -> None:
    assert 'name="address"' in site.get("/").text

    answer = site.sign_up("ada@example.org")

    assert answer.status == 303
    wait_until(lambda: site.get(answer.location).text, lambda page: "It was sent" in page, "done")
    assert site.mails() == [{"to": "ada@example.org", "text": "Welcome!"}]


def test_progress_page_shows_a_task_that_waits(site: Site) -> None:
    site.server.request("POST", "/pause")
    location = site.sign_up("ada@example.org").location

    page = site.get(location)

    assert "on its way; attempts made so far: 0" in page.text


def test_progress_of_an_unknown_task_is_not_found(site: Site) -> None:
    assert site.get("/progress/0123").status == 404


def test_mistaken_address_is_refused_and_pushes_nothing(site: Site) -> None:
    assert site.sign_up("nobody").status == 400
    assert site.server.listing("waiting") == []


def test_page_views_register_the_hourly_schedule_once(site: Site) -> None:
    for path in ("/", "/", "/admin", "/admin"):
        assert site.get(path).status == 200

    assert [task["schedule"] for task in site.server.listing("cron")] == ["@every 1h"]


def test_admin_page_shows_the_four_listings(site: Site) -> None:
    location = site.sign_up("ada@example.org").location
    wait_until(lambda: site.get(location).text, lambda page: "It was sent" in page, "done")

    page = site.get("/admin").text

    for heading in ("waiting (1)", "success (1)", "dead (0)", "cron (1)"):
        assert heading in page
    assert "ada@example.org" in page


@pytest.mark.parametrize("key", [None, "", "wrong", KEY + "x", "cl\xe9"])
def test_task_called_without_the_key_is_refused(site: Site, key: str | None) -> None:
    assert site.call_task(key).status == 403
    assert site.mails() == []


def test_attempt_that_is_made_again_sends_no_second_mail(site: Site) -> None:
    answers = [site.call_task(KEY).status for _ in range(2)]

    assert answers == [200, 200]
    assert site.mails() == [{"to": "a@b", "text": "Welcome!"}]
