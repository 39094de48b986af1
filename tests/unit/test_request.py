from __future__ import annotations

import base64

import msgspec
import pytest

from poussetaches import __version__
from poussetaches.core.queue import QueueSettings
from poussetaches.engine.config import EngineConfig
from poussetaches.engine.request import Request, build_request
from tests.factories import make_task

KEY = EngineConfig(auth_key="secret", key_targets=frozenset({"api.example.com"}))


def request_of(config: EngineConfig = KEY, **overrides: object) -> Request:
    """Return the request of a task's next attempt."""
    return build_request(make_task("task", **overrides), request_id="req", config=config)


def test_headers_name_the_task_and_the_attempt() -> None:
    request = request_of(queue="mail", attempt_count=2, round=3)

    assert request.headers == {
        "User-Agent": f"poussetaches/{__version__}",
        "Poussetaches-Task-ID": "task",
        "Poussetaches-Queue": "mail",
        "Poussetaches-Attempt": "3",
        "Poussetaches-Round": "3",
        "Poussetaches-Request-ID": "req",
    }


def test_headers_and_body_of_the_task_go_along_as_they_are() -> None:
    request = request_of(headers={"Content-Type": "text/csv"}, body=b"a;b", method="PUT")

    assert request.headers["Content-Type"] == "text/csv"
    assert (request.method, request.body) == ("PUT", b"a;b")


def test_envelope_holds_the_payload_in_base64_with_tries_and_req_id() -> None:
    request = request_of(envelope=True, body=b"\x00hello", attempt_count=1)

    assert msgspec.json.decode(request.body) == {
        "payload": base64.b64encode(b"\x00hello").decode(),
        "tries": 2,
        "req_id": "req",
    }
    assert request.headers["Content-Type"] == "application/json"


def test_timeout_is_the_tasks_own_or_else_the_queues() -> None:
    config = EngineConfig(queue=QueueSettings(timeout=30.0))

    assert request_of(config).timeout == 30.0
    assert request_of(config, timeout=5.0).timeout == 5.0


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://app:5000/", True),
        ("http://localhost/", True),
        ("http://127.0.0.1:8000/", True),
        ("http://10.1.2.3/", True),
        ("http://[::1]/", True),
        ("https://api.example.com/", True),
        ("https://example.com/", False),
        ("https://evil.api.example.com/", False),
        ("http://93.184.216.34/", False),
    ],
)
def test_key_goes_to_private_hosts_and_those_named_and_to_nobody_else(
    url: str, sent: bool
) -> None:
    request = request_of(url=url)

    assert request.key_sent is sent
    assert (request.headers.get("Poussetaches-Auth-Key") == "secret") is sent


def test_no_key_is_sent_when_there_is_none() -> None:
    assert not request_of(EngineConfig(), url="http://app/").key_sent
