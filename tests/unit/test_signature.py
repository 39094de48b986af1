from __future__ import annotations

from typing import Any

import pytest

from poussetaches.core.request_target import request_target
from poussetaches.core.signature import (
    SignedRequest,
    body_hash,
    quoted_path,
    secret_bytes,
    sign,
    sign_request,
    signed_body_hash,
    verify_request,
)

# The example of the Standard Webhooks specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1_614_265_330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

KEY = secret_bytes(SECRET)
OTHER = b"another secret"


# The example of docs/protocol.md.
REQUEST = SignedRequest("POST", "/tasks/send", "x=1", ID, TIMESTAMP, body_hash(BODY))
REQUEST_SIGNATURE = (
    "sha256,ae858931f67887e8150d6f96c9fe03062c1df36b4464c4ddc8e002c084d5d198"
    " v1,3eh2PaiQQGQcCzmkm80YxaGSsjvO1mkP0aNTFfmWfQk="
)


def verified(signature: str, request: SignedRequest = REQUEST) -> bool:
    """Return whether a signature is right for the example, or for another request."""
    return verify_request([KEY], request, signature=signature)


def test_signature_is_that_of_the_specification() -> None:
    assert sign([KEY], id=ID, timestamp=TIMESTAMP, body=BODY) == SIGNATURE


def test_each_secret_signs() -> None:
    signature = sign([OTHER, KEY], id=ID, timestamp=TIMESTAMP, body=BODY)

    first, second = signature.split(" ")
    assert second == SIGNATURE
    assert first.startswith("v1,")
    assert first != second


def test_signature_of_a_request_is_that_of_the_protocol() -> None:
    assert sign_request([KEY], REQUEST) == REQUEST_SIGNATURE


def test_right_signature_is_recognised_among_others() -> None:
    assert verified(REQUEST_SIGNATURE)
    assert verified(f"v1,AAAA v1a,BBBB {REQUEST_SIGNATURE}")


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"path": "/tasks/delete"},
        {"path": "/tasks/send/"},
        {"query": ""},
        {"query": "x=2"},
        {"id": "other"},
        {"timestamp": TIMESTAMP + 1},
        {"body_hash": body_hash(BODY + b" ")},
    ],
    ids=str,
)
def test_signature_of_another_request_is_refused(changes: dict[str, Any]) -> None:
    assert not verified(REQUEST_SIGNATURE, REQUEST._replace(**changes))


def test_no_part_of_a_request_can_become_another_part() -> None:
    query = REQUEST._replace(path="/tasks", query="/send")
    path = REQUEST._replace(path="/tasks/send", query="")

    assert len({request.content for request in (REQUEST, query, path)}) == 3


def test_signature_of_standard_webhooks_signs_no_request() -> None:
    """An id, with which its content begins, travels in a header and has no line end."""
    assert not verified(SIGNATURE)
    assert REQUEST.content.startswith(b"poussetaches-v1\n")


@pytest.mark.parametrize(
    "signature",
    [
        *("", "v1,", "v1,\u00e9", REQUEST_SIGNATURE.replace("v1,", "")),
        REQUEST_SIGNATURE.replace("v1,", "v2,"),
    ],
    ids=["nothing", "empty", "not ASCII", "no version", "another version"],
)
def test_what_is_no_signature_is_refused(signature: str) -> None:
    assert not verified(signature)


def test_signature_made_with_another_secret_is_refused() -> None:
    assert not verified(sign_request([OTHER], REQUEST))


def test_either_of_two_secrets_is_enough() -> None:
    assert verify_request([OTHER, KEY], REQUEST, signature=REQUEST_SIGNATURE)
    assert verified(sign_request([OTHER, KEY], REQUEST))


@pytest.mark.parametrize(
    ("signature", "found"),
    [
        (REQUEST_SIGNATURE, REQUEST.body_hash),
        (f"v1,AAAA sha256,{'0' * 64}", "0" * 64),
        ("v1,AAAA", None),
        (f"sha256,{'0' * 63}", None),
        (f"sha256,{'A' * 64}", None),
        (f"{REQUEST_SIGNATURE} sha256,{'0' * 64}", None),
    ],
    ids=["the example", "behind", "none", "short", "capitals", "two"],
)
def test_hash_of_the_body_is_read_from_the_header(signature: str, found: str | None) -> None:
    assert signed_body_hash(signature) == found


def test_secret_is_base64_behind_its_prefix_and_its_own_bytes_otherwise() -> None:
    assert secret_bytes("whsec_aGVsbG8=") == b"hello"
    assert secret_bytes("aGVsbG8=") == b"aGVsbG8="


@pytest.mark.parametrize("secret", ["whsec_a", "whsec_aGVsbG8", "whsec_a-b_"])
def test_secret_that_is_no_base64_behind_its_prefix_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="not base64"):
        secret_bytes(secret)


def test_path_is_quoted_as_the_client_sends_it() -> None:
    """Each printable character, and what is not ASCII, as the client's own parser quotes it."""
    for character in [*map(chr, range(0x20, 0x7F)), "\u00e9", "\u20ac", "\x00", "\n"]:
        # These end a path, or are quoted before a URL is made of it.
        written = {"?": "%3F", "#": "%23", "%": "%25", "\\": "%5C"}.get(character, character)
        if not character.isprintable() and character.isascii():
            written = f"%{ord(character):02X}"

        assert quoted_path(f"/a{character}b") == request_target(f"http://h/a{written}b").path
