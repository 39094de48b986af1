"""The target of a request line is the URL's path and query, percent-encoded."""

from __future__ import annotations

import pytest

from poussetaches.core.request_target import request_target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h", "/"),
        ("http://h?a=b", "/?a=b"),
        ("http://h#a", "/"),
        ("http://h/a?#b", "/a"),
        ("http://u:p@h:1/a/b?c=d?e#f?g", "/a/b?c=d?e"),
        ("http://h/caf\u00e9?\u20ac=\u00e9", "/caf%C3%A9?%E2%82%AC=%C3%A9"),
        ("http://h/a%2fb%", "/a%2fb%"),
        ("http://h/\"<>`{}'|^[]?\"<>`{}'|^[]", "/%22%3C%3E%60%7B%7D'|^[]?%22%3C%3E`{}%27|^[]"),
        ("http://h/a/./b/../c", "/a/c"),
        ("http://h/a/%2E%2e/%2e/c", "/c"),
        ("http://h/../..", "/"),
        ("http://h/a/..", "/"),
        ("http://h/a/.", "/a/"),
        ("http://h//a//b", "//a//b"),
        ("http://h/.well-known/..a/a..", "/.well-known/..a/a.."),
        ("http://h/a?b/../c", "/a?b/../c"),
    ],
)
def test_target_is_written_as_browsers_do(url: str, target: str) -> None:
    assert str(request_target(url)) == target
