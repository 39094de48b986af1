"""What ``poussetaches check`` says of the receiver's own answers."""

from __future__ import annotations

import pytest

from poussetaches.cli.findings import FINDINGS, finding_of
from poussetaches.client.receive import PROBE, IncomingRequest
from poussetaches.client.tasks import Tasks

KEY = "the key"


def probed(tasks: Tasks, *, key: str | None = KEY, path: str = f"/_poussetaches/{PROBE}") -> str:
    """Return what is found when the receiver answers a probe; "" when all is well."""
    headers = {} if key is None else {"Poussetaches-Auth-Key": key}
    reply = tasks.receiver().run(IncomingRequest("POST", path, headers))
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
