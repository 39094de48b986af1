"""Signatures of what a server delivers, checked from the specifications alone, as receivers would.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, and
docs/protocol.md for the signature of the whole request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator

import pytest
from flask import Flask

from poussetaches.flask import Tasks
from tests.acceptance.harness import Delivery, Receiver, Server, receiving, serving, wait_until
from tests.application import RecordingPusher
from tests.integration.v1 import Client

NEW_KEY = bytes(range(32))
NEW_SECRET = "whsec_" + base64.b64encode(NEW_KEY).decode()
OLD_SECRET = "a secret of plain text"
OLD_KEY = OLD_SECRET.encode()

JSON = '{"name":"Zo\u00eb","n": 1.0}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        "POUSSETACHES_SIGNING_SECRET": f"{NEW_SECRET},{OLD_SECRET}",
        "POUSSETACHES_MIN_BACKOFF": "0.01",
    }
    with serving(tmp_path_factory.mktemp("signed") / "data", env=env) as server:
        yield server


def fails_once(delivery: Delivery) -> int:
    return 500 if delivery.headers["poussetaches-attempt"] == "1" else 200


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(fails_once) as receiver:
        yield receiver


def is_signed_with(key: bytes, delivery: Delivery) -> bool:
    headers = delivery.headers
    signed = b"%s.%s.%s" % (
        headers["webhook-id"].encode(),
        headers["webhook-timestamp"].encode(),
        delivery.body,
    )
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return expected in headers["webhook-signature"].split(" ")


def is_signed_whole_with(key: bytes, delivery: Delivery) -> bool:
    headers = delivery.headers
    path, _, query = delivery.path.partition("?")
    lines = [
        *("poussetaches-v1", delivery.method, path, query),
        *(headers["webhook-id"], headers["webhook-timestamp"]),
        hashlib.sha256(delivery.body).hexdigest(),
    ]
    signature = base64.b64encode(hmac.digest(key, "\n".join(lines).encode(), "sha256")).decode()
    items = headers["poussetaches-signature"].split(" ")
    return {f"sha256,{lines[-1]}", f"v1,{signature}"} <= set(items)


@pytest.mark.parametrize(
    "pushed",
    [
        pytest.param(f'"json": {JSON}', id="JSON"),
        pytest.param('"text": "a.b, Zo\u00eb"', id="text"),
        pytest.param('"body_base64": "AP8NCi4="', id="bytes"),
        pytest.param('"priority": 0', id="nothing"),
    ],
)
def test_receiver_with_either_secret_can_check_each_attempt(
    server: Server, receiver: Receiver, pushed: str
) -> None:
    push = f'{{"url": "{receiver.url}/run", {pushed}}}'.encode()
    task_id = Client(server).send("POST", "/v1/tasks", push).json["id"]

    wait_until(lambda: len(receiver.deliveries), lambda count: count == 2, "two attempts")

    for delivery in receiver.deliveries:
        assert delivery.headers["webhook-id"] == task_id
        assert abs(int(delivery.headers["webhook-timestamp"]) - time.time()) < 60
        assert is_signed_with(NEW_KEY, delivery)
        assert is_signed_with(OLD_KEY, delivery)
        assert not is_signed_with(b"another key", delivery)
        assert is_signed_whole_with(NEW_KEY, delivery)
        assert is_signed_whole_with(OLD_KEY, delivery)


def test_tasks_of_the_original_are_signed_too(server: Server, receiver: Receiver) -> None:
    server.push(f"{receiver.url}/run", b"payload")

    wait_until(lambda: len(receiver.deliveries), bool, "an attempt")

    assert is_signed_with(NEW_KEY, receiver.deliveries[0])
    assert is_signed_whole_with(NEW_KEY, receiver.deliveries[0])


@pytest.mark.parametrize(
    "target",
    [
        *("", "/", "?", "/?", "/a?", "/a?x=1&y=%41", "?x", "/a?x=?&y=#part", "/#part?x"),
        *("/caf\u00e9?\u20ac=\u00e9", "/%7e%7E/%2f", "/a/../b/./c", "/a/%2E%2e/b", "/a//b/"),
        *("/a;b=c,d:@!$&()*+='~", '/"<>`{}|^[]?"<>`{}|^[]\'', "/a%", "/a%zz?%"),
    ],
)
def test_path_and_query_are_signed_as_they_are_sent(
    server: Server, receiver: Receiver, target: str
) -> None:
    push = json.dumps({"url": receiver.url + target, "method": "PUT"}).encode()
    Client(server).send("POST", "/v1/tasks", push)

    wait_until(lambda: len(receiver.deliveries), bool, "an attempt")

    assert receiver.deliveries[0].method == "PUT"
    assert is_signed_whole_with(NEW_KEY, receiver.deliveries[0])


def test_delivery_to_a_third_party_is_refused_by_the_receiver(
    server: Server, receiver: Receiver
) -> None:
    """It posts request and signature, as it got them, to another task's path."""
    app = Flask("shop")
    tasks = Tasks(app, signing_secrets=OLD_SECRET, environ={})
    deleted: list[str] = []

    @tasks.task(name="app.delete_all_accounts")
    def delete_all_accounts() -> None:
        deleted.append("all")

    path = "/_poussetaches/app.delete_all_accounts"
    for target in ("/hooks/shop", path):
        push = json.dumps({"url": receiver.url + target, "json": {}}).encode()
        Client(server).send("POST", "/v1/tasks", push)
    wait_until(lambda: len(receiver.deliveries), lambda count: count == 4, "both tasks")
    by_path = {delivery.path: delivery for delivery in receiver.deliveries}

    def replay(delivery: Delivery) -> int:
        client = app.test_client()
        return client.post(path, headers=dict(delivery.headers), data=delivery.body).status_code

    with tasks.use(RecordingPusher()):
        assert replay(by_path["/hooks/shop"]) == 401
        assert deleted == []
        assert replay(by_path[path]) == 200
