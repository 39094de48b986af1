from __future__ import annotations

import pytest

from poussetaches.core.signature import secret_bytes, sign, verify

# The example of the Standard Webhooks specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1_614_265_330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

KEY = secret_bytes(SECRET)
OTHER = b"another secret"


def verified(signature: str, **changes: object) -> bool:
    """Tell whether a signature is right for the example, or for another than that."""
    given = {"id": ID, "timestamp": TIMESTAMP, "body": BODY, **changes}
    return verify([KEY], signature=signature, **given)  # type: ignore[arg-type]  # by name


def test_signature_is_that_of_the_specification() -> None:
    assert sign([KEY], id=ID, timestamp=TIMESTAMP, body=BODY) == SIGNATURE


def test_each_secret_signs() -> None:
    signature = sign([OTHER, KEY], id=ID, timestamp=TIMESTAMP, body=BODY)

    first, second = signature.split(" ")
    assert second == SIGNATURE
    assert first.startswith("v1,")
    assert first != second


def test_right_signature_is_recognised_among_others() -> None:
    assert verified(SIGNATURE)
    assert verified(f"v1,AAAA v1a,BBBB {SIGNATURE}")


@pytest.mark.parametrize(
    "changes",
    [{"id": "other"}, {"timestamp": TIMESTAMP + 1}, {"body": BODY + b" "}],
    ids=["id", "timestamp", "body"],
)
def test_signature_of_something_else_is_refused(changes: dict[str, object]) -> None:
    assert not verified(SIGNATURE, **changes)


@pytest.mark.parametrize(
    "signature",
    ["", "v1,", "v1,é", SIGNATURE.removeprefix("v1,"), SIGNATURE.replace("v1,", "v2,")],
    ids=["nothing", "empty", "not ASCII", "no version", "another version"],
)
def test_what_is_no_signature_is_refused(signature: str) -> None:
    assert not verified(signature)


def test_signature_made_with_another_secret_is_refused() -> None:
    assert not verified(sign([OTHER], id=ID, timestamp=TIMESTAMP, body=BODY))


def test_either_of_two_secrets_is_enough() -> None:
    assert verify([OTHER, KEY], id=ID, timestamp=TIMESTAMP, body=BODY, signature=SIGNATURE)


def test_secret_is_base64_behind_its_prefix_and_its_own_bytes_otherwise() -> None:
    assert secret_bytes("whsec_aGVsbG8=") == b"hello"
    assert secret_bytes("aGVsbG8=") == b"aGVsbG8="


@pytest.mark.parametrize("secret", ["whsec_a", "whsec_aGVsbG8", "whsec_a-b_"])
def test_secret_that_is_no_base64_behind_its_prefix_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="not base64"):
        secret_bytes(secret)
