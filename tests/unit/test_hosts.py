from __future__ import annotations

from ipaddress import ip_address

import pytest

from poussetaches.core.hosts import address_of, is_named


@pytest.mark.parametrize(
    ("host", "names", "expected"),
    [
        ("api.example.com", ["api.example.com"], True),
        ("api.example.com", ["other.example.com", "api.example.com"], True),
        ("api.example.com", ["example.com"], False),
        ("api.example.com", ["*.example.com"], True),
        ("a.b.example.com", ["*.example.com"], True),
        ("example.com", ["*.example.com"], False),
        ("badexample.com", ["*.example.com"], False),
        ("api.example.com.evil.net", ["*.example.com"], False),
        ("anything", [], False),
    ],
)
def test_name_stands_for_itself_and_a_wildcard_for_all_below_it(
    host: str, names: list[str], expected: bool
) -> None:
    assert is_named(host, names) is expected


def test_address_of_ipv4_is_the_same_where_ipv6_carries_it() -> None:
    assert address_of("::ffff:10.0.0.1") == address_of("10.0.0.1") == ip_address("10.0.0.1")


@pytest.mark.parametrize(
    "host", ["example.com", "localhost", "1.2.3", "0x7f.0.0.1", "fe80::1%2", ""]
)
def test_name_is_no_address(host: str) -> None:
    assert address_of(host) is None
