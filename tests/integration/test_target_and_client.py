"""The HTTP client connects to the host and port that we read from a URL."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyreqwest.http import Url

from poussetaches.core.errors import InvalidTask
from poussetaches.core.target import Target, parse_target

# Marks that have led parsers of URLs to different hosts.
marks = st.sampled_from(
    [
        *"/?#@:[]\\.%-_~!$&'()*+,;=^`{|}<>\"\t\n",
        *("//", "..", "::", "%2e", "%00", "%40", "0x7f", "0177", "127.1", "[::1]", "xn--"),
        *("\u3002", "\uff0e", "\u00ad", "\u2028", "\u0130"),
    ]
)
words = st.text("abcxyzABC0189_-.", min_size=1, max_size=8)
hosts = st.one_of(
    words,
    st.sampled_from(["localhost", "app", "a.b", "xn--bcher-kva.de", "1.2.3.4", "[::1]"]),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]".format),
    st.text(max_size=6),
    st.lists(st.integers(0, 300).map(str) | st.integers(0, 255).map(hex), max_size=5).map(
        ".".join
    ),
)
ports = (
    st.just("") | st.integers(-1, 70_000).map(":{}".format) | st.text(max_size=3).map(":".__add__)
)
userinfos = st.just("") | st.tuples(words | marks, st.just("@")).map("".join)
paths = st.just("") | st.lists(words | marks, max_size=4).map(lambda parts: "/" + "".join(parts))
schemes = st.sampled_from(["http://", "https://", "HTTP://", "http:/", "http:", "https:///"])
likely = st.tuples(schemes, userinfos, hosts, ports, paths).map("".join)
wild = st.lists(words | marks | schemes | hosts, max_size=6).map(
    lambda parts: "http://" + "".join(parts)
)


def seen_by_the_client(url: str) -> Target:
    """Return where the client would connect to."""
    parsed = Url(url)
    host, port = parsed.host_str, parsed.port_or_known_default
    assert host is not None
    assert port is not None
    return Target(parsed.scheme, host.strip("[]"), port)


@given(likely | wild)
def test_client_connects_to_the_host_and_port_that_we_saw(url: str) -> None:
    try:
        target = parse_target(url)
    except InvalidTask:
        return
    # Labels in Punycode that encode nothing are the one thing that the client alone refuses:
    # they lead nowhere.
    assume("xn--" not in target.host)

    assert seen_by_the_client(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "http://app",
        "http://app:/",
        "http://u:p@app:81/",
        "http://a@b@app/",
        "http://project_web_1:5005/",
        "http://app./",
        "http://[0:0::1]/",
        "http://[::ffff:1.2.3.4]/",
        "http://app?@evil",
        "http://app#@evil",
        "http://xn--bcher-kva.de/",
        "http://app/déjà vu".replace(" ", "%20"),
    ],
)
def test_client_agrees_about(url: str) -> None:
    assert seen_by_the_client(url) == parse_target(url)
