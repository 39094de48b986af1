from __future__ import annotations

import pytest

from poussetaches.core.errors import TargetNotAllowed
from poussetaches.core.target import parse_target
from poussetaches.core.target_allowlist import AllowedTargets, Verdict, parse_rule

YES, NO, BY_ADDRESS = Verdict.YES, Verdict.NO, Verdict.BY_ADDRESS


@pytest.mark.parametrize(
    ("rules", "url", "verdict"),
    [
        pytest.param([], "http://anywhere.example/", YES, id="no rules"),
        pytest.param(["api.example.com"], "http://api.example.com/", YES, id="name"),
        pytest.param(["api.example.com"], "https://API.example.com./", YES, id="dot at the end"),
        pytest.param(["API.Example.com"], "http://api.example.com/", YES, id="upper case"),
        pytest.param(["api.example.com"], "http://api.example.com:81/", YES, id="any port"),
        pytest.param(["api.example.com:443"], "https://api.example.com/", YES, id="its port"),
        pytest.param(["api.example.com:443"], "http://api.example.com/", NO, id="another port"),
        pytest.param(["api.example.com"], "http://example.com/", NO, id="another name"),
        pytest.param(["api.example.com"], "http://a@evil.example/", NO, id="name elsewhere"),
        pytest.param(["*.example.com"], "http://a.b.example.com/", YES, id="wildcard"),
        pytest.param(
            ["*.example.com"], "http://example.com/", NO, id="what the wildcard is under"
        ),
        pytest.param(["localhost"], "http://localhost:8000/", YES, id="localhost"),
        pytest.param(["localhost"], "http://127.0.0.1:8000/", NO, id="address of a named host"),
        pytest.param(["project_web_1"], "http://project_web_1/", YES, id="underscores"),
        pytest.param(["127.0.0.1"], "http://127.0.0.1/", YES, id="address"),
        pytest.param(["127.0.0.1"], "http://127.0.0.2/", NO, id="another address"),
        pytest.param(["127.0.0.1:80"], "http://127.0.0.1:81/", NO, id="another port there"),
        pytest.param(["10.0.0.0/8"], "http://10.200.3.4/", YES, id="network"),
        pytest.param(["10.0.0.0/8"], "http://11.0.0.1/", NO, id="another network"),
        pytest.param(["10.0.0.0/8:8000"], "http://10.0.0.1:8000/", YES, id="port in a network"),
        pytest.param(["10.0.0.0/8:8000"], "http://10.0.0.1/", NO, id="another in the network"),
        pytest.param(["10.0.0.0/8"], "http://[::ffff:a00:1]/", YES, id="IPv4 in IPv6"),
        pytest.param(["0.0.0.0/0"], "http://[::1]/", NO, id="IPv6 where IPv4 is allowed"),
        pytest.param(["::/0"], "http://127.0.0.1/", NO, id="IPv4 where IPv6 is allowed"),
        pytest.param(["[::1]"], "http://[::1]/", YES, id="IPv6"),
        pytest.param(["::1"], "http://[0::1]:81/", YES, id="IPv6 without brackets"),
        pytest.param(["[::1]:80"], "http://[::1]:81/", NO, id="IPv6, another port"),
        pytest.param(["fc00::/7"], "http://[fd00::1]/", YES, id="IPv6 network"),
        pytest.param(["[fc00::/7]:80"], "http://[fd00::1]/", YES, id="IPv6 network with a port"),
        pytest.param(["10.0.0.0/8"], "http://app/", BY_ADDRESS, id="name that may lead there"),
        pytest.param(["10.0.0.0/8:80"], "http://app:81/", NO, id="port that is allowed nowhere"),
        pytest.param(["10.0.0.0/8", "app"], "http://app/", YES, id="name beside a network"),
        pytest.param(
            ["10.0.0.0/8", "app:80"], "http://app:81/", BY_ADDRESS, id="named for another port"
        ),
    ],
)
def test_target_is_judged_by_name_and_address(
    rules: list[str], url: str, verdict: Verdict
) -> None:
    assert AllowedTargets(rules).judge(parse_target(url)) is verdict


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("10.1.2.3", 80, True),
        ("::ffff:10.1.2.3", 80, True),
        ("192.0.2.1", 8000, True),
        ("192.0.2.1", 80, False),
        ("127.0.0.1", 80, False),
        ("fe80::1", 80, True),
        ("fe80::1%2", 80, False),  # no client can be pinned to it
        ("nonsense", 80, False),
    ],
)
def test_address_of_a_name_must_be_in_a_network(address: str, port: int, expected: bool) -> None:
    allowed = AllowedTargets(["10.0.0.0/8", "192.0.2.1:8000", "fe80::/10", "app.example"])

    assert allowed.has_address(address, port) is expected


def test_refusal_names_field_target_and_setting() -> None:
    with pytest.raises(TargetNotAllowed) as caught:
        AllowedTargets(["app"]).check("url", "http://user:secret@evil.example/path")

    assert caught.value.field == "url"
    assert str(caught.value) == (
        "url: evil.example:80 is not an allowed target; see the setting allow_target"
    )


def test_what_may_turn_out_to_be_allowed_is_not_refused() -> None:
    AllowedTargets(["10.0.0.0/8"]).check("url", "http://app/")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "*.",
        ".example.com",
        "a.*.com",
        "http://example.com",
        "example.com/path",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:http",
        "10.0.0.1/8",  # bits below the mask: which network is meant?
        "10.0.0.0/33",
        "10.0.0",
        "300.0.0.1",
        "0x7f.0.0.0x1",
        "1234",
        "[::1",
        "[10.0.0.1]",
        "[::1]/128",
        "::1:80000",
        "fe80::1%eth0",
        "a b",
    ],
)
def test_text_that_is_neither_name_nor_network_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rule(text)
