"""What ``poussetaches check`` says of the receiver's own answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from poussetaches.cli.findings import FINDINGS, finding_of
from poussetaches.client.delivery_auth import IncomingRequest
from poussetaches.client.receiver import PROBE
from poussetaches.client.tasks import Tasks
from tests.application import signed

KEY = "the key"
SECRET = "a secret of twenty-four bytes"


def probed(
    tasks: Tasks,
    *,
    key: str | None = KEY,
    path: str = f"/_poussetaches/{PROBE}",
    sign: Callable[[IncomingRequest], IncomingRequest] = lambda request: request,
) -> str:
    """Return what is found when the receiver answers a probe; "" when all is well."""
    headers = {} if key is None else {"Poussetaches-Auth-Key": key}
    reply = tasks.receiver().run(sign(IncomingRequest("POST", path, headers)))
    attempt = {
        "status": int(reply.status),
        "error": None,
        "response_body": reply.body.decode(),
        "auth_key": "withheld" if key is None else "sent",
    }
    return finding_of(attempt) or ""


@pytest.mark.parametrize(
    ("environ", "key", "finding"),
    [
        ({"POUSSETACHES_AUTH_KEY": KEY}, KEY, ""),
        ({"POUSSETACHES_AUTH_KEY": KEY}, "another", "key"),
        ({"POUSSETACHES_AUTH_KEY": KEY}, None, "no-key"),
        ({"POUSSETACHES_SIGNING_SECRET": "secret"}, KEY, "signature"),
        ({}, KEY, "keyless"),
        ({"POUSSETACHES_SIGNING_SECRET": "whsec_not base64"}, KEY, "bad-settings"),
    ],
    ids=["well", "wrong key", "no key", "no signature", "keyless", "settings"],
)
def test_answers_of_the_receiver_are_told_apart(
    environ: dict[str, str], key: str | None, finding: str
) -> None:
    assert probed(Tasks(environ=environ), key=key) == finding
    assert finding == "" or finding in FINDINGS


def changed(
    request: IncomingRequest, *, id: str = "task-1", body: bytes | None = None
) -> IncomingRequest:
    """Return a signed request with another task id or another body."""
    headers = {**request.headers, "Poussetaches-Task-ID": id}
    return replace(request, headers=headers, body=request.body if body is None else body)


@pytest.mark.parametrize(
    ("sign", "finding"),
    [
        (lambda it: signed(it, SECRET, at=time.time()), ""),
        (lambda it: signed(it, "another", at=time.time()), "signature"),
        (lambda it: signed(it, SECRET, at=time.time(), prefix="/shop"), "signature"),
        (lambda it: changed(signed(it, SECRET, at=time.time()), id="task-2"), "signature"),
        (lambda it: changed(signed(it, SECRET, at=time.time()), body=b"another"), "signature"),
        (lambda it: signed(it, SECRET, at=time.time() - 3600), "clock"),
        (lambda it: replace(it, headers={"webhook-signature": "v1,AAAA"}), "old-server"),
    ],
    ids=["well", "wrong", "another path", "another task", "another body", "clock", "older server"],
)
def test_refusals_of_a_signature_are_told_apart(
    sign: Callable[[IncomingRequest], IncomingRequest], finding: str
) -> None:
    tasks = Tasks(environ={"POUSSETACHES_SIGNING_SECRET": SECRET})

    assert probed(tasks, sign=sign) == finding
    assert finding == "" or finding in FINDINGS
