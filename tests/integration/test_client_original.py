"""The drop-in against the surface, the results and the errors of the original's client 0.2.0."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import requests

from poussetaches import GetTask, PousseTaches, Task
from poussetaches.client import NoAnswer, Refused
from tests.acceptance.harness import PATIENCE, Server, free_port, receiving, serving, wait_until

KEY = "a shared key"

# The parameters of the original's methods, with their defaults, as its source has them.
METHODS = {
    "__init__": "self, api_url, base_url",
    "push": "self, payload, path, expected=200, schedule='', delay=0",
    "parse": "self, req",
    "pause": "self",
    "resume": "self",
    "get_cron": "self",
    "get_success": "self",
    "get_waiting": "self",
    "get_dead": "self",
}
FIELDS = {
    Task: ["req_id", "tries", "payload"],
    GetTask: [
        *("payload", "expected", "schedule", "task_id", "next_run", "tries", "url"),
        *("last_error_status_code", "last_error_body"),
    ],
}

WITHOUT_REQUESTS = """
import sys
sys.modules["requests"] = sys.modules["flask"] = None  # as if they were not installed
from poussetaches import PousseTaches
from poussetaches.client import NoAnswer, Refused
client = PousseTaches(sys.argv[1], "http://app.test")
client.push({}, "/x", delay=1)
for call, kind in (
    (lambda: client.push({}, "/x", schedule="never"), Refused),
    (PousseTaches(sys.argv[2], "").pause, NoAnswer),
):
    try:
        call()
    except kind as error:
        assert not isinstance(error, OSError)
    else:
        raise AssertionError
"""


class Incoming:
    """The part of a request that ``parse`` reads."""

    def __init__(self, data: bytes, key: str | None) -> None:
        self.data = data
        self.headers = {} if key is None else {"Poussetaches-Auth-Key": key}


def envelope(payload: object) -> bytes:
    encoded = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps({"payload": encoded, "tries": 2, "req_id": "abc"}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"POUSSETACHES_ORIGINAL_MAX_ATTEMPTS": "1"}
    with serving(tmp_path_factory.mktemp("original") / "data", env=env) as server:
        yield server


def test_surface_is_the_originals() -> None:
    for name, parameters in METHODS.items():
        found = inspect.signature(getattr(PousseTaches, name)).parameters.values()
        bare = [str(one.replace(annotation=inspect.Parameter.empty)) for one in found]
        assert ", ".join(bare) == parameters
    for kind, fields in FIELDS.items():
        assert [field.name for field in dataclasses.fields(kind)] == fields


def test_tasks_are_pushed_and_listed_as_with_the_original(server: Server) -> None:
    with receiving(lambda it: (500, {}, "é".encode()) if it.path == "/dead" else 200) as receiver:
        client = PousseTaches(server.url, receiver.url)
        done = client.push({"a": 1}, "/done")
        dead = client.push("text", "/dead", expected=201)
        later = client.push([], "/later", delay=5)
        cron = client.push(None, "/cron", schedule="@every 1h")
        wait_until(client.get_dead, bool, "a dead task")
        wait_until(client.get_success, bool, "a task that succeeded")

    [success], [failed] = client.get_success(), client.get_dead()
    waiting, [scheduled] = client.get_waiting(), client.get_cron()
    assert (success.task_id, success.payload, success.tries) == (done, {"a": 1}, 1)
    assert (failed.task_id, failed.payload, failed.expected) == (dead, "text", 201)
    assert (failed.last_error_status_code, failed.last_error_body) == (500, "é")
    assert {task.task_id for task in waiting} == {later, cron}
    assert (scheduled.task_id, scheduled.schedule) == (cron, "@every 1h")
    assert isinstance(scheduled.next_run, datetime)
    assert scheduled.next_run.tzinfo is None


def test_server_is_paused_and_resumed(server: Server) -> None:
    client = PousseTaches(server.url, "http://app.test")

    client.pause()
    assert server.request("GET", "/").json["paused"]
    client.resume()
    assert not server.request("GET", "/").json["paused"]


def test_errors_are_those_of_requests_too(server: Server) -> None:
    with pytest.raises(requests.HTTPError) as refused:
        PousseTaches(server.url, "http://app.test").push({}, "/x", schedule="never")
    with pytest.raises(requests.ConnectionError) as lost:
        PousseTaches(f"http://127.0.0.1:{free_port()}", "").pause()

    assert isinstance(refused.value, Refused)
    assert refused.value.response.status_code == 422
    assert refused.value.response.json()["status"] == 422
    assert isinstance(lost.value, NoAnswer)


def test_neither_requests_nor_flask_is_needed(server: Server) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_REQUESTS, server.url, nobody],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_envelope_is_parsed_and_nothing_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POUSSETACHES_AUTH_KEY", KEY)

    task = PousseTaches("", "").parse(Incoming(envelope({"a": 1}), KEY))

    assert task == Task(req_id="abc", tries=2, payload={"a": 1})
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("shown", [None, "", "wrong", "é"])
@pytest.mark.parametrize("key", [None, "", KEY])
def test_wrong_or_missing_key_is_refused(
    monkeypatch: pytest.MonkeyPatch, key: str | None, shown: str | None
) -> None:
    monkeypatch.delenv("POUSSETACHES_AUTH_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("POUSSETACHES_AUTH_KEY", key)

    with pytest.raises(ValueError, match="Bad auth key"):
        PousseTaches("", "").parse(Incoming(envelope(1), shown))


def test_key_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    monkeypatch.delenv("POUSSETACHES_AUTH_KEY", raising=False)
    monkeypatch.setenv("POUSSETACHES_AUTH_KEY_FILE", str(file))

    assert PousseTaches("", "").parse(Incoming(envelope(1), KEY)).payload == 1
