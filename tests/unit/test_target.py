from __future__ import annotations

import re

import pytest

from poussetaches.core.errors import InvalidTask
from poussetaches.core.target import (
    MAX_URL,
    Target,
    absolute_url,
    check_absolute_url,
    check_base_url,
    check_stored_url,
    check_url,
    is_path,
    may_have_key,
    origin_of,
    parse_target,
    path_of,
    without_credentials,
)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        pytest.param("http://app/", Target("http", "app", 80), id="plain name"),
        pytest.param("http://app", Target("http", "app", 80), id="no path"),
        pytest.param("https://app/", Target("https", "app", 443), id="https"),
        pytest.param("HTTP://App.Example/", Target("http", "app.example", 80), id="upper case"),
        pytest.param("http://app:5000/run", Target("http", "app", 5000), id="port"),
        pytest.param("http://app:/run", Target("http", "app", 80), id="empty port"),
        pytest.param("http://app:00080/", Target("http", "app", 80), id="port with zeros"),
        # Docker Compose made such names, and the original took them.
        pytest.param(
            "http://project_web_1:5005/", Target("http", "project_web_1", 5005), id="underscores"
        ),
        pytest.param("http://127.0.0.1/", Target("http", "127.0.0.1", 80), id="IPv4"),
        pytest.param("http://[::1]:81/", Target("http", "::1", 81), id="IPv6"),
        pytest.param("http://[0:0:0:0::0001]/", Target("http", "::1", 80), id="IPv6, long"),
        pytest.param("http://u:p@app/", Target("http", "app", 80), id="userinfo"),
        # The last @ ends the userinfo, for us as for HTTP clients.
        pytest.param("http://a@b@app/", Target("http", "app", 80), id="two userinfos"),
        pytest.param("http://u:80@app:81/", Target("http", "app", 81), id="userinfo like a host"),
        pytest.param("http://app?x@evil", Target("http", "app", 80), id="query with an @"),
        pytest.param("http://app#@evil", Target("http", "app", 80), id="fragment with an @"),
        pytest.param("http://app/a:b@c[d]", Target("http", "app", 80), id="marks in the path"),
        pytest.param("http://app/déjà?q=é", Target("http", "app", 80), id="path beyond ASCII"),
        pytest.param("http://app./", Target("http", "app.", 80), id="dot at the end"),
        pytest.param("http://4.example/", Target("http", "4.example", 80), id="label of digits"),
        pytest.param("http://xn--bcher-kva.de/", Target("http", "xn--bcher-kva.de", 80), id="xn"),
    ],
)
def test_url_leads_to(url: str, target: Target) -> None:
    assert parse_target(url) == target


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("", "must begin with http:// or https://", id="empty"),
        pytest.param("/run", "must begin with http", id="relative"),
        pytest.param("//app/run", "must begin with http", id="without a scheme"),
        pytest.param("app:5000/run", "must begin with http", id="host and port alone"),
        pytest.param("ftp://app/", "must begin with http", id="ftp"),
        pytest.param("file:///etc/passwd", "must begin with http", id="file"),
        pytest.param("http\u017f://app/", "must begin with http", id="long s"),
        pytest.param("http:app/", "must begin with http", id="no slashes"),
        pytest.param("http:/app/", "must begin with http", id="one slash"),
        pytest.param("http:///app/", "has no host", id="three slashes"),
        pytest.param("http://", "has no host", id="no host"),
        pytest.param("http://:80/", "has no host", id="port without a host"),
        pytest.param("http://u@/", "has no host", id="userinfo without a host"),
        pytest.param("http://app/a b", "space", id="space"),
        pytest.param(" http://app/", "space", id="space before"),
        pytest.param("http://app/\r\nX: y", "control character", id="CR LF"),
        pytest.param("http://app/\x00", "control character", id="NUL"),
        pytest.param("http://app\t/", "control character", id="tab"),
        pytest.param("http://app/\x7f", "control character", id="DEL"),
        pytest.param("http://app/\ud800", "half a surrogate pair", id="surrogate"),
        # A browser's parser reads this as app, ours would read evil.
        pytest.param("http://app\\@evil/", "backslash", id="backslash"),
        pytest.param("http://app:0/", "port must be from 1 to 65535", id="port 0"),
        pytest.param("http://app:65536/", "port must be from", id="port 65536"),
        pytest.param("http://app:80a/", "must have a host, or a host and", id="port with letter"),
        pytest.param("http://app:-1/", "must have a host, or a host and", id="negative port"),
        pytest.param("http://app:٣/", "must have a host, or a host and", id="Arabic digit"),
        pytest.param("http://app:1:2/", "must have a host, or a host and", id="two ports"),
        pytest.param("http://::1/", "must have a host, or a host and", id="IPv6, no brackets"),
        pytest.param("http://[::1/", "must have a host, or a host and", id="open bracket"),
        pytest.param("http://[::1]x/", "must have a host, or a host and", id="after a bracket"),
        pytest.param("http://x[::1]/", "must have a host, or a host and", id="before a bracket"),
        pytest.param("http://[::1%eth0]/", "must have a host, or a host and", id="IPv6 zone"),
        pytest.param("http://[app]/", "must have a host, or a host and", id="name in brackets"),
        pytest.param("http://[::1::]/", "not an IP address", id="broken IPv6"),
        pytest.param("http://[1.2.3.4]/", "not an IP address", id="IPv4 in brackets"),
        # All of these are 127.0.0.1 to one HTTP client or another.
        pytest.param("http://2130706433/", "not an IP address", id="IPv4 as one number"),
        pytest.param("http://127.1/", "not an IP address", id="IPv4 cut short"),
        pytest.param("http://0x7f.0.0.1/", "not an IP address", id="IPv4 in hex"),
        pytest.param("http://0177.0.0.1/", "not an IP address", id="IPv4 in octal"),
        pytest.param("http://127.0.0.1./", "not an IP address", id="IPv4 with a dot"),
        pytest.param("http://127.0.0.0x1/", "not an IP address", id="IPv4 partly in hex"),
        pytest.param("http://1.2.3.256/", "not an IP address", id="IPv4 out of range"),
        pytest.param("http://example.0X1F/", "not an IP address", id="name that ends in hex"),
        pytest.param("http://bücher.de/", "ASCII form", id="host beyond ASCII"),
        pytest.param("http://\uff11\uff12\uff17.0.0.1/", "ASCII form", id="full-width digits"),
        pytest.param("http://app%2eexample/", "not a host name", id="escaped host"),
        pytest.param("http://-app/", "not a host name", id="hyphen first"),
        pytest.param("http://app-/", "not a host name", id="hyphen last"),
        pytest.param("http://a..b/", "not a host name", id="empty label"),
        pytest.param("http://.a/", "not a host name", id="dot first"),
        pytest.param("http://a,b/", "not a host name", id="comma"),
        pytest.param(f"http://{'a' * 254}/", "not a host name", id="host too long"),
        pytest.param(f"http://app/{'a' * MAX_URL}", "longer than 8192", id="URL too long"),
    ],
)
def test_url_is_refused_with_a_reason(url: str, reason: str) -> None:
    with pytest.raises(InvalidTask, match=re.escape(reason)) as caught:
        parse_target(url)

    assert caught.value.field == "url"


def test_longest_url_is_accepted() -> None:
    url = "http://app/".ljust(MAX_URL, "a")

    assert parse_target(url).host == "app"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        pytest.param("http://app/a", "http://app:80", id="port written out"),
        pytest.param("https://u:p@App:444/?q#f", "https://app:444", id="nothing but the origin"),
        pytest.param("http://[::1]/", "http://[::1]:80", id="IPv6 in brackets"),
    ],
)
def test_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    ("host", "private"),
    [
        pytest.param("localhost", True, id="localhost"),
        pytest.param("a.localhost", True, id="below localhost"),
        pytest.param("LOCALHOST", True, id="localhost in upper case"),
        pytest.param("app", True, id="bare name"),
        pytest.param("project_web_1", True, id="bare name with underscores"),
        pytest.param("127.0.0.1", True, id="loopback"),
        pytest.param("127.9.9.9", True, id="all of the loopback network"),
        pytest.param("0.0.0.0", True, id="this host"),
        pytest.param("10.1.2.3", True, id="10/8"),
        pytest.param("172.16.0.1", True, id="172.16/12"),
        pytest.param("172.31.255.255", True, id="end of 172.16/12"),
        pytest.param("192.168.1.1", True, id="192.168/16"),
        pytest.param("169.254.1.1", True, id="link-local"),
        pytest.param("[::1]", True, id="IPv6 loopback"),
        pytest.param("[fd00::1]", True, id="IPv6 unique local"),
        pytest.param("[fe80::1]", True, id="IPv6 link-local"),
        pytest.param("[::ffff:127.0.0.1]", True, id="loopback mapped to IPv6"),
        pytest.param("[::ffff:10.0.0.1]", True, id="private mapped to IPv6"),
        pytest.param("[::ffff:8.8.8.8]", False, id="public mapped to IPv6"),
        pytest.param("8.8.8.8", False, id="public"),
        pytest.param("172.32.0.1", False, id="past 172.16/12"),
        pytest.param("192.0.2.1", False, id="documentation"),
        pytest.param("100.64.0.1", False, id="carrier's network"),
        pytest.param("[2001:db8::1]", False, id="IPv6 documentation"),
        pytest.param("[2001::1]", False, id="Teredo, which leads to anywhere"),
        pytest.param("[2002:7f00:1::]", False, id="6to4, which leads to anywhere"),
        pytest.param("app.internal", False, id="name with a dot"),
        pytest.param("app.", False, id="bare name with a dot"),
        pytest.param("localhost.evil.example", False, id="localhost at the beginning"),
        pytest.param("notlocalhost.example", False, id="localhost in a name"),
        pytest.param("127.0.0.1.nip.io", False, id="address at the beginning"),
    ],
)
def test_key_goes_to_private_hosts_alone(host: str, private: bool) -> None:
    assert parse_target(f"http://{host}/").is_private is private
    assert may_have_key(f"http://{host}/", ()) is private


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        pytest.param("https://app.example/x", True, id="named"),
        pytest.param("https://APP.example:444/x", True, id="named, at any port"),
        pytest.param("https://b.app.example/x", False, id="below the one named"),
        pytest.param("https://app.example.evil/x", False, id="named one at the beginning"),
        pytest.param("https://app.example@evil.example/x", False, id="named one as userinfo"),
    ],
)
def test_key_goes_to_hosts_that_are_named(url: str, allowed: bool) -> None:
    assert may_have_key(url, {"app.example"}) is allowed


@pytest.mark.parametrize("url", ["/", "/run?x=1#y", "/a//b", "/[x]", "http://app/run"])
def test_path_and_absolute_url_can_be_sent_to(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    ["", "run", "?x", "ftp://app/", "/a b", "/a\\b", "/a\n", "/" + "x" * MAX_URL, "http://"],
    ids=lambda url: repr(url[:12]),
)
def test_what_is_neither_a_path_nor_an_absolute_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidTask):
        check_url(url)


# Parsers differ over these, and Python's raises for most of them, with the password in its text.
ODD_USERINFO = [
    pytest.param("http://user:pa[ss@host/", id="bracket in the password"),
    pytest.param("http://u]@host/", id="bracket in the user"),
    pytest.param("http://[zz]@host/", id="brackets round the user"),
    pytest.param("http://user:pa\uff20ss@host/", id="full-width @"),
    pytest.param("http://user:pa\uff0fss@host/", id="full-width slash"),
    pytest.param("http://user:pa\uff1ass@host/", id="full-width colon"),
    pytest.param("http://user:pa\uff03ss@host/", id="full-width number sign"),
    pytest.param("http://user:pa\uff1fss@host/", id="full-width question mark"),
    pytest.param("http://us\u2100er@host/", id="sign that holds a slash"),
    pytest.param("http://us\u00e9r@host/", id="letter beyond ASCII"),
    pytest.param('http://us"er@host/', id="quotation mark"),
    pytest.param("http://us<er>@host/", id="angle brackets"),
]


@pytest.mark.parametrize("url", ODD_USERINFO)
def test_user_and_password_must_be_percent_encoded(url: str) -> None:
    for check in (check_url, check_absolute_url, check_base_url):
        with pytest.raises(InvalidTask, match="must be percent-encoded") as caught:
            check(url)
        assert "pa" not in caught.value.reason.replace("password", "")


@pytest.mark.parametrize("url", ODD_USERINFO)
def test_url_that_an_earlier_version_took_leads_where_it_did(url: str) -> None:
    check_stored_url(url)

    assert parse_target(url) == Target("http", "host", 80)
    assert origin_of(url) == "http://host:80"


@pytest.mark.parametrize(
    "url",
    [
        "http://u:p@host/",
        "http://u:p@ss@host/",
        "http://:%5B%40%2F@host/",
        "http://a.b~-!$&'()@h/",
    ],
)
def test_user_and_password_as_rfc_3986_writes_them_are_accepted(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize("url", ["//[x", "//other.example/run", "//"])
def test_path_that_others_take_for_a_host_is_refused(url: str) -> None:
    with pytest.raises(InvalidTask, match="begin a path with a single slash"):
        check_url(url)
    check_stored_url(url)


def test_url_is_measured_as_it_is_sent() -> None:
    check_url("http://app/" + "é" * 1300)

    with pytest.raises(InvalidTask, match="longer than 8192 characters when percent-encoded"):
        check_url("http://app/" + "é" * 1400)


@pytest.mark.parametrize("url", ["/run", "ftp://app/"])
def test_absolute_url_is_asked_for_by_name(url: str) -> None:
    with pytest.raises(InvalidTask, match="must begin with http:// or https://"):
        check_absolute_url(url)


@pytest.mark.parametrize("url", ["", "run", "_poussetaches/app.fetch", "app:5000/x", "ftp://app/"])
def test_beginning_of_a_path_is_named_where_a_path_is_allowed(url: str) -> None:
    with pytest.raises(InvalidTask, match=r"^url: must begin with /, http:// or https://$"):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        pytest.param("http://u:p@app:1/a/b?c=/d#e", "/a/b", id="absolute"),
        pytest.param("http://app", "", id="no path"),
        pytest.param("http://app?x", "", id="query alone"),
        pytest.param("/a?b", "/a", id="path"),
        pytest.param("//[x/y", "//[x/y", id="two slashes"),
        pytest.param("http://user:pa[ss@host/p", "/p", id="odd userinfo"),
        pytest.param("ftp://u:secret@host/p", "/p", id="another scheme"),
        pytest.param("http://[", "", id="no URL"),
        pytest.param("", "", id="empty"),
    ],
)
def test_every_url_has_a_path(url: str, path: str) -> None:
    assert path_of(url) == path


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("http://app/run@x", "http://app/run@x", id="none"),
        pytest.param("http://u:secret@app/r@x", "http://***@app/r@x", id="password"),
        pytest.param("HTTPS://:secret@app", "HTTPS://***@app", id="password alone"),
        pytest.param("http://u:sec@ret@app/", "http://***@app/", id="password with an @"),
        pytest.param("http://u:sec[ret@app/", "http://***@app/", id="password with a bracket"),
        # In an invalid URL, the password cannot be identified.
        pytest.param("http://u:sec/ret@app/", "http://***@app/", id="password with a slash"),
        pytest.param("http://u:sec#ret@a,pp/", "http://***@a,pp/", id="host that is none"),
        pytest.param("ftp://u:secret@app/", "ftp://***@app/", id="another scheme"),
    ],
)
def test_password_of_a_url_is_not_shown(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize("url", ["http://app", "https://app:5000/", "http://app/base/path"])
def test_path_can_be_put_behind_a_base_url(url: str) -> None:
    check_base_url(url)


@pytest.mark.parametrize("url", ["/base", "app", "http://app/?x", "http://app/#x", "ftp://app"])
def test_path_cannot_be_put_behind_anything_else(url: str) -> None:
    with pytest.raises(InvalidTask):
        check_base_url(url)


@pytest.mark.parametrize(
    ("base_url", "url", "expected"),
    [
        pytest.param("http://app", "/run?x=1", "http://app/run?x=1", id="host alone"),
        pytest.param("http://app/", "/run", "http://app/run", id="slash at the end"),
        pytest.param("http://app/base/", "/run", "http://app/base/run", id="base path"),
        pytest.param("http://app", "/", "http://app/", id="root"),
        pytest.param("http://app", "http://else/run", "http://else/run", id="absolute URL"),
        # Neither of them may lead to another host than that of the base.
        pytest.param("http://app", "//evil/run", "http://app//evil/run", id="two slashes"),
        pytest.param("http://app", "/@evil/run", "http://app/@evil/run", id="at sign"),
    ],
)
def test_joined_url_leads_to_the_host_of_its_base(base_url: str, url: str, expected: str) -> None:
    assert absolute_url(base_url, url) == expected
    if is_path(url):
        assert origin_of(absolute_url(base_url, url)) == origin_of(base_url)


@pytest.mark.parametrize("url", ["ftp://app/", "http://[", "http://a b/", "", "run", "\ud800"])
def test_url_that_leads_nowhere_has_no_origin(url: str) -> None:
    assert origin_of(url) == ""


def test_path_has_no_origin() -> None:
    assert origin_of("/run") == ""
    assert origin_of("//evil.example/run") == ""
