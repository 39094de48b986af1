"""The problem that ``poussetaches check`` finds in an attempt of its probe."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from poussetaches.cli.check_findings import Finding, attempt_finding
from poussetaches.client.delivery_auth import IncomingRequest
from poussetaches.client.receiver import PROBE
from poussetaches.client.results import AttemptInfo
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
) -> Finding | None:
    """Return the finding for the receiver's response to a probe."""
    headers = {} if key is None else {"Poussetaches-Auth-Key": key}
    reply = tasks.receiver().run(sign(IncomingRequest("POST", path, headers)))
    return attempt_finding(
        attempt_of(
            status=int(reply.status),
            response_body=reply.body.decode(),
            auth_key="withheld" if key is None else "sent",
        )
    )


def attempt_of(**fields: object) -> AttemptInfo:
    """Return an attempt that failed without a response, except for some fields."""
    attempt = AttemptInfo(
        round=1,
        number=1,
        request_id="request",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        duration=0.1,
        status=None,
        error=None,
        response_body="",
        response_truncated=False,
        auth_key=None,
    )
    return msgspec.structs.replace(attempt, **fields)


@pytest.mark.parametrize(
    ("environ", "key", "finding"),
    [
        ({"POUSSETACHES_AUTH_KEY": KEY}, KEY, None),
        ({"POUSSETACHES_AUTH_KEY": KEY}, "another", Finding.WRONG_KEY),
        ({"POUSSETACHES_AUTH_KEY": KEY}, None, Finding.NO_KEY),
        ({"POUSSETACHES_SIGNING_SECRET": "secret"}, KEY, Finding.WRONG_SIGNATURE),
        ({}, KEY, Finding.NO_KEY_CONFIGURED),
        ({"POUSSETACHES_SIGNING_SECRET": "whsec_not base64"}, KEY, Finding.INVALID_SETTINGS),
    ],
    ids=["well", "wrong key", "no key", "no signature", "keyless", "settings"],
)
def test_refusal_of_the_receiver_is_recognised_by_its_code(
    environ: dict[str, str], key: str | None, finding: Finding | None
) -> None:
    assert probed(Tasks(environ=environ), key=key) is finding


def changed(
    request: IncomingRequest, *, id: str = "task-1", body: bytes | None = None
) -> IncomingRequest:
    """Return a signed request with another task id or another body."""
    headers = {**request.headers, "Poussetaches-Task-ID": id}
    return replace(request, headers=headers, body=request.body if body is None else body)


@pytest.mark.parametrize(
    ("sign", "finding"),
    [
        (lambda it: signed(it, SECRET, at=time.time()), None),
        (lambda it: signed(it, "another", at=time.time()), Finding.WRONG_SIGNATURE),
        (lambda it: signed(it, SECRET, at=time.time(), prefix="/shop"), Finding.WRONG_SIGNATURE),
        (
            lambda it: changed(signed(it, SECRET, at=time.time()), id="task-2"),
            Finding.WRONG_SIGNATURE,
        ),
        (
            lambda it: changed(signed(it, SECRET, at=time.time()), body=b"another"),
            Finding.WRONG_SIGNATURE,
        ),
        (lambda it: signed(it, SECRET, at=time.time() - 3600), Finding.WRONG_TIME),
        (lambda it: replace(it, headers={"webhook-signature": "v1,AAAA"}), Finding.OLD_SERVER),
    ],
    ids=["well", "wrong", "another path", "another task", "another body", "clock", "older server"],
)
def test_refusal_of_a_signature_is_recognised_by_its_code(
    sign: Callable[[IncomingRequest], IncomingRequest], finding: Finding | None
) -> None:
    tasks = Tasks(environ={"POUSSETACHES_SIGNING_SECRET": SECRET})

    assert probed(tasks, sign=sign) is finding


@pytest.mark.parametrize(
    ("cause", "finding"),
    [
        ("unknown_host", Finding.UNKNOWN_HOST),
        ("lookup_failed", Finding.UNKNOWN_HOST),
        ("tls_failed", Finding.TLS_FAILED),
        ("timeout", Finding.TIMEOUT),
        ("connection_lost", Finding.CONNECTION_LOST),
        ("a cause of a newer server", Finding.CONNECTION_LOST),
        (None, Finding.CONNECTION_LOST),
    ],
)
def test_attempt_without_a_response_is_recognised_by_its_cause(
    cause: str | None, finding: Finding
) -> None:
    assert attempt_finding(attempt_of(error="any words", cause=cause)) is finding


def test_response_that_broke_off_is_not_judged_by_its_status() -> None:
    attempt = attempt_of(status=200, error="broke off", cause="connection_lost")

    assert attempt_finding(attempt) is Finding.CONNECTION_LOST


@pytest.mark.parametrize("body", ["", "Poussetaches-Auth-Key", "poussetaches-refusal: wrong-key"])
def test_words_in_the_page_of_another_program_are_no_refusal(body: str) -> None:
    assert attempt_finding(attempt_of(status=401, response_body=body)) is Finding.LOGIN
