from __future__ import annotations

import base64

import msgspec
import pytest

from poussetaches import __version__
from poussetaches.core.errors import InvalidTask
from poussetaches.core.moment import SECOND
from poussetaches.core.queue import Queue, QueueOverrides, QueueSettings
from poussetaches.core.signature import SignedRequest, body_hash, sign, verify_request
from poussetaches.core.task import BodyKind, DeliveryForm
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.queue_registry import Queues
from poussetaches.engine.request import Request, build_request
from tests.factories import NOW, make_task

KEY = EngineConfig(auth_key="secret", key_targets=frozenset({"api.example.com"}))
OLD, NEW = b"the old secret", b"the new secret"


def request_of(
    config: EngineConfig = KEY, settings: QueueOverrides | None = None, **overrides: object
) -> Request:
    """Return the request of a task's next attempt."""
    task = make_task("task", **overrides)
    queues = Queues(config.queue, original_retry=config.original_retry)
    if settings is not None:
        queues.update({task.queue: Queue(name=task.queue, overrides=settings)})
    return build_request(
        task, request_id="req", token="token", now=NOW, queues=queues, config=config
    )


def test_headers_name_the_task_and_the_attempt() -> None:
    request = request_of(queue="mail", attempt_count=2, round=3)

    assert request.headers == {
        "User-Agent": f"poussetaches/{__version__}",
        "Accept": "*/*",
        "Poussetaches-Task-ID": "task",
        "Poussetaches-Queue": "mail",
        "Poussetaches-Attempt": "3",
        "Poussetaches-Round": "3",
        "Poussetaches-Request-ID": "req",
        "Poussetaches-Attempt-Token": "token",
    }


def test_headers_and_body_of_the_task_go_along_as_they_are() -> None:
    request = request_of(headers={"Content-Type": "text/csv"}, body=b"a;b", method="PUT")

    assert request.headers["Content-Type"] == "text/csv"
    assert (request.method, request.body) == ("PUT", b"a;b")


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        (BodyKind.JSON, "application/json"),
        (BodyKind.TEXT, "text/plain; charset=utf-8"),
        (BodyKind.BASE64, "application/octet-stream"),
    ],
)
def test_kind_of_the_body_implies_a_content_type(kind: BodyKind, content_type: str) -> None:
    assert request_of(body_kind=kind).headers["Content-Type"] == content_type


def test_task_without_a_body_has_no_content_type() -> None:
    assert "Content-Type" not in request_of(body_kind=None).headers


@pytest.mark.parametrize(
    "name", ["Content-Type", "content-type", "User-Agent", "user-AGENT", "accept"]
)
def test_header_that_a_task_names_is_sent_once_and_as_it_says(name: str) -> None:
    request = request_of(body_kind=BodyKind.JSON, headers={name: "its own"})

    found = {key: value for key, value in request.headers.items() if key.lower() == name.lower()}
    assert found == {name: "its own"}


def test_envelope_holds_the_payload_in_base64_with_tries_and_req_id() -> None:
    request = request_of(delivery=DeliveryForm.ENVELOPE, body=b"\x00hello", attempt_count=1)

    assert msgspec.json.decode(request.body) == {
        "payload": base64.b64encode(b"\x00hello").decode(),
        "tries": 2,
        "req_id": "req",
    }


def test_envelope_is_json_whatever_its_task_says() -> None:
    request = request_of(delivery=DeliveryForm.ENVELOPE, headers={"content-type": "text/csv"})

    assert request.headers["Content-Type"] == "application/json"
    assert "content-type" not in request.headers


def test_timeout_is_the_tasks_own_or_else_the_queues_or_else_the_servers() -> None:
    config = EngineConfig(queue=QueueSettings(timeout=30.0))

    assert request_of(config).timeout == 30.0
    assert request_of(config, QueueOverrides(timeout=10.0)).timeout == 10.0
    assert request_of(config, QueueOverrides(timeout=10.0), timeout=5.0).timeout == 5.0


def test_path_is_put_behind_the_base_url_of_its_queue_or_else_the_servers() -> None:
    config = EngineConfig(queue=QueueSettings(base_url="https://app.example/base/"))
    queue = QueueOverrides(base_url="http://other.example:8000")

    assert request_of(config, url="/run?x=1").url == "https://app.example/base/run?x=1"
    assert request_of(config, queue, url="/run").url == "http://other.example:8000/run"
    assert request_of(config, queue, url="http://app/run").url == "http://app/run"


def test_path_that_leads_nowhere_is_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidTask, match="no base URL; set base_url of the queue 'default'"):
        request_of(url="/run")


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


@pytest.mark.parametrize(
    ("base_url", "sent"), [("http://app:5000", True), ("https://example.com", False)]
)
def test_key_of_a_path_goes_by_where_it_leads(base_url: str, sent: bool) -> None:
    request = request_of(KEY, QueueOverrides(base_url=base_url), url="/run")

    assert request.key_sent is sent


def test_no_key_is_sent_when_there_is_none() -> None:
    assert not request_of(EngineConfig(), url="http://app/").key_sent


@pytest.mark.parametrize("delivery", DeliveryForm)
def test_body_is_signed_as_it_is_sent_with_each_secret(delivery: DeliveryForm) -> None:
    request = request_of(
        EngineConfig(signing_secrets=(NEW, OLD)), body=b"hello", delivery=delivery
    )

    headers = request.headers
    assert headers["webhook-id"] == "task"
    assert headers["webhook-timestamp"] == str(NOW // SECOND)
    assert headers["webhook-signature"] == sign(
        (NEW, OLD), id="task", timestamp=NOW // SECOND, body=request.body
    )


def is_signed(request: Request, *, secret: bytes, path: str, query: str) -> bool:
    """Return whether a request has a right request signature for path and query."""
    signed = SignedRequest(
        request.method, path, query, "task", NOW // SECOND, body_hash(request.body)
    )
    signature = request.headers["Poussetaches-Signature"]
    return verify_request([secret], signed, signature=signature)


@pytest.mark.parametrize("delivery", DeliveryForm)
@pytest.mark.parametrize("secret", [NEW, OLD])
def test_request_is_signed_whole_with_each_secret(delivery: DeliveryForm, secret: bytes) -> None:
    request = request_of(
        EngineConfig(signing_secrets=(NEW, OLD)),
        QueueOverrides(base_url="http://app:5000/base"),
        url="/run?x=\u00e9#part",
        method="PUT",
        body=b"hello",
        delivery=delivery,
    )

    assert is_signed(request, secret=secret, path="/base/run", query="x=%C3%A9")


@pytest.mark.parametrize(
    ("url", "base_url", "goes"),
    [
        ("http://127.0.0.1:5000/_poussetaches/app.run", None, True),
        ("https://api.example.com/_poussetaches/app.run", None, True),
        # A third party's webhook, with the path of one of the application's tasks.
        ("https://third.party/_poussetaches/app.delete_account", None, False),
        ("/_poussetaches/app.run", "https://shop.example", True),
    ],
    ids=["private", "key target", "public", "behind a base URL"],
)
def test_request_signature_goes_to_the_application_alone(
    url: str, base_url: str | None, goes: bool
) -> None:
    config = EngineConfig(signing_secrets=(NEW,), key_targets=frozenset({"api.example.com"}))
    settings = None if base_url is None else QueueOverrides(base_url=base_url)

    headers = request_of(config, settings, url=url).headers

    assert ("Poussetaches-Signature" in headers) is goes
    assert "webhook-signature" in headers


def test_url_that_the_client_cannot_read_is_refused() -> None:
    with pytest.raises(InvalidTask, match="url"):
        request_of(EngineConfig(signing_secrets=(NEW,)), url="http://app:5000:1/")


def test_nothing_is_signed_without_a_secret() -> None:
    assert not [name for name in request_of().headers if name.startswith("webhook-")]
