from __future__ import annotations

import base64

import pytest

from poussetaches.api.auth import Tokens, token_of


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        pytest.param("Bearer s3cret", b"s3cret", id="bearer"),
        pytest.param("bearer  two words ", b"two words", id="bearer with odd spaces"),
        pytest.param(basic("anna:s3cret"), b"s3cret", id="basic"),
        pytest.param(basic(":s3cret"), b"s3cret", id="basic without a user"),
        pytest.param(basic("anna:a:b"), b"a:b", id="password with a colon"),
        pytest.param(basic("anna:").replace("Basic", "BASIC"), b"", id="no password"),
        pytest.param(basic("anna"), b"", id="basic without a colon"),
        pytest.param("Basic Og==", b"", id="neither user nor password"),
        pytest.param("Basic s3cret", None, id="basic that is not base64"),
        pytest.param("Basic \xff", None, id="basic that is not even ASCII"),
        pytest.param("Bearer", b"", id="no token"),
        pytest.param("Digest s3cret", None, id="another scheme"),
        pytest.param("", None, id="empty"),
    ],
)
def test_token_is_found_in_the_header(authorization: str, token: bytes | None) -> None:
    headers = [(b"host", b"a"), (b"authorization", authorization.encode("latin-1"))]

    assert token_of(headers) == token


def test_without_the_header_there_is_no_token() -> None:
    assert token_of([(b"host", b"a")]) is None


def test_each_token_may_do_its_own() -> None:
    tokens = Tokens("writes", "reads")

    assert tokens.has_full_access(b"writes")
    assert tokens.has_read_access(b"reads")
    assert not tokens.has_full_access(b"reads")
    assert not tokens.has_read_access(b"writes")


@pytest.mark.parametrize("token", [b"", b"write", b"writes ", b"WRITES", b"\xff"], ids=repr)
def test_nearly_right_token_is_wrong(token: bytes) -> None:
    tokens = Tokens("writes")

    assert not tokens.has_full_access(token)
    assert not tokens.has_read_access(token)
