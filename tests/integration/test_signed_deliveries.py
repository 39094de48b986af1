"""Signatures of what a server delivers, checked as a receiver would, from the specification alone.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.harness import Delivery, Receiver, Server, receiving, serving, wait_until
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


def test_tasks_of_the_original_are_signed_too(server: Server, receiver: Receiver) -> None:
    server.push(f"{receiver.url}/run", b"payload")

    wait_until(lambda: len(receiver.deliveries), bool, "an attempt")

    assert is_signed_with(NEW_KEY, receiver.deliveries[0])
