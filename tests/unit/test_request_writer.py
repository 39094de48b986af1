"""Requests as bytes."""

from __future__ import annotations

import pytest

from poussetaches.http_client.errors import InvalidRequest
from poussetaches.http_client.request_writer import write_request


def head_of(
    method: str = "POST",
    url: str = "http://app.test/run",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> list[str]:
    head, _, rest = write_request(method, url, headers or {}, body).partition(b"\r\n\r\n")
    assert rest == body
    return head.decode().split("\r\n")


def test_request_has_a_line_a_host_and_its_headers() -> None:
    assert head_of(headers={"X-Own": "é"}, body=b"hello") == [
        "POST /run HTTP/1.1",
        "Host: app.test",
        "X-Own: é",
        "Content-Length: 5",
    ]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://app.test:80/", "app.test"),
        ("https://app.test:443/", "app.test"),
        ("http://app.test:443/", "app.test:443"),
        ("http://[0:0::1]:81/", "[::1]:81"),
        ("http://[::1]/", "[::1]"),
        ("HTTP://APP.test/", "app.test"),
    ],
)
def test_host_has_the_port_unless_it_is_the_schemes_own(url: str, host: str) -> None:
    assert f"Host: {host}" in head_of(url=url)


@pytest.mark.parametrize(
    ("userinfo", "credentials"),
    [("user:pa%5Bss", "dXNlcjpwYVtzcw=="), ("user", "dXNlcjo="), ("a@b:c", "YUBiOmM=")],
)
def test_user_and_password_become_basic_credentials(userinfo: str, credentials: str) -> None:
    url = f"http://{userinfo}@app.test/run?at=@"

    assert f"Authorization: Basic {credentials}" in head_of(url=url)
    own = head_of(url=url, headers={"authorization": "Bearer own"})
    assert [line for line in own if "uthorization" in line] == ["authorization: Bearer own"]


def test_at_sign_in_the_path_is_no_user() -> None:
    assert not [line for line in head_of(url="http://app.test/@a") if "uthorization" in line]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_request_without_a_body_has_no_length(method: str) -> None:
    assert not [line for line in head_of(method) if line.startswith("Content-Length")]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"X-A": "a\r\nX-B: b"}),
        ("POST", {"X-A": "a\nb"}),
        ("POST", {"X-A": "a\rb"}),
        ("POST", {"X-A": "a\0b"}),
        ("POST", {"X-A": "\ud800"}),
        ("POST", {"X A": "a"}),
        ("POST", {"": "a"}),
        ("POST", {"X-A:": "a"}),
        ("PO ST", {}),
        ("", {}),
    ],
    ids=repr,
)
def test_request_that_http_does_not_allow_is_refused(method: str, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        write_request(method, "http://app.test/", headers, b"")
