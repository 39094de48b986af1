"""Generated URLs are refused at the push, or every parser reads them as ours does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from socket import socket

from hypothesis import example, given
from hypothesis import strategies as st

from poussetaches.core.errors import Invalid, InvalidTask
from poussetaches.core.failure_group import common_path, group_of
from poussetaches.core.target import (
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
from poussetaches.core.target_allowlist import AllowedTargets
from poussetaches.core.task import Outcome, TaskState
from poussetaches.engine.request import Request
from poussetaches.engine.sender import HttpSender
from poussetaches.http_client.request_writer import write_request
from tests.factories import NOW, make_ended, make_task

# Delimiters, characters that NFKC turns into delimiters or removes, and surrogates.
MARKS = [
    *"[]@:/?#%\\|^{}<>\"'`,;=&+~!$*() \t\r\n\x00\x7f",
    *("\uff20", "\uff0f", "\uff1a", "\uff03", "\uff1f", "\u2100", "\u2048", "\ufe55", "\uff3b"),
    *("\u00ad", "\u200d", "\u3002", "\uff0e", "\u0130", "\ud800", "\udfff", "\U0001f600", "é"),
    *("%5b", "%40", "%2f", "%zz", "//", "..", "xn--", "0x7f", "[::1]", "127.0.0.1", "a.test"),
]
pieces = st.lists(st.sampled_from(MARKS) | st.text("ab1-_.", max_size=3), max_size=6).map("".join)
schemes = st.sampled_from(["http://", "https://", "HTTP://", "http:/", "ftp://", "//", ""])
hosts = pieces | st.sampled_from(["a.test", "127.0.0.1", "[::1]", "localhost", "a.test.", "xn--a"])
ports = st.sampled_from(["", ":", ":80", ":0", ":65536", ":1:2"]) | pieces
paths = st.sampled_from(["", "/", "/a/b?c=d#e", "//[x", "?@a.test", "#@a.test"]) | pieces
absolute = st.builds(
    lambda scheme, userinfo, host, port, path: f"{scheme}{userinfo}{host}{port}{path}",
    schemes,
    pieces.map(lambda text: f"{text}@") | st.just(""),
    hosts,
    ports,
    paths,
)
urls = absolute | pieces.map("/".__add__) | st.text()
bases = st.sampled_from(["http://base.test", "https://u:p@base.test:1/x/", "http://[::1]/"])


@given(urls, bases, pieces)
@example("//[x", "http://base.test", "")
@example("http://user:pa[ss@host/", "http://base.test", "")
def test_pushed_url_is_read_alike_by_all_parsers(url: str, base: str, error: str) -> None:
    try:
        check_url(url)
    except InvalidTask as exc:
        assert exc.field == "url"
        return
    check_stored_url(url)
    whole = absolute_url(base, url)

    target = parse_target(whole)

    assert target.origin == (origin_of(base) if is_path(url) else origin_of(url))
    assert parse_target(target.origin) == target
    assert may_have_key(whole, ()) is target.is_private
    AllowedTargets(["10.0.0.0/8", "*.test"]).judge(target)
    assert_is_read_alike(whole)
    assert_tasks_can_be_written(url, error)


@given(urls, pieces)
@example("http://user:pa[ss@host/", "")
@example("http://a\uff0fb:secret@host/", "")
def test_stored_url_is_read_alike_by_all_parsers(url: str, error: str) -> None:
    try:
        check_stored_url(url)
    except InvalidTask:
        return

    whole = absolute_url("http://base.test", url)

    assert parse_target(whole).origin == origin_of(whole)
    assert_is_read_alike(whole)
    assert_tasks_can_be_written(url, error)


@given(urls)
def test_every_text_has_an_origin_and_a_path(url: str) -> None:
    assert origin_of(url) == "" or origin_of(url).startswith("http")
    assert not {"?", "#"} & set(path_of(url))
    assert common_path(url)
    assert len(without_credentials(url)) <= len(url) + len("***")
    for check in (check_absolute_url, check_base_url):
        try:
            check(url)
        except Invalid as exc:
            assert exc.reason


@given(st.text("sécret[]%@:\uff0f!", min_size=4).map("PW-".__add__), schemes, hosts, paths)
def test_password_is_in_no_error(secret: str, scheme: str, host: str, path: str) -> None:
    url = f"{scheme}user:{secret}@{host}{path}"

    try:
        check_url(url)
    except InvalidTask as exc:
        assert "PW-" not in str(exc)
    if "//" in scheme:
        assert "PW-" not in without_credentials(url)


@given(pieces, st.sampled_from(["", "/"]), pieces)
@example("user:pa[ss@", "", "")
@example("", "//", "[x")
@example("", "/", "\U0001f600" * 8000)
def test_attempt_at_any_url_has_an_outcome(userinfo: str, slash: str, rest: str) -> None:
    with refusing_port() as port:
        url = f"http://{userinfo}@127.0.0.1:{port}{slash}{rest}"
        try:
            parse_target(url)
        except InvalidTask:
            return

        outcome = asyncio.run(attempt(url))

    assert outcome.error
    assert outcome.status is None
    password = userinfo.partition(":")[2]
    if len(password) > 5:
        assert password not in outcome.error


def assert_is_read_alike(url: str) -> None:
    """Check that the host of the request is the one that is connected to, and its target valid."""
    target = parse_target(url)
    head = write_request("POST", url, {}, b"").decode()
    line, host, *_ = head.split("\r\n")
    default = {"http": 80, "https": 443}[target.scheme]
    written = parse_target(f"{target.scheme}://{host.removeprefix('Host: ')}/")
    assert written == target
    assert host.endswith(f":{target.port}") or target.port == default
    assert re.fullmatch(r"POST /[!-~]* HTTP/1\.1", line)
    assert "#" not in line


def assert_tasks_can_be_written(url: str, error: str) -> None:
    """Check that a task with this URL can be stored, and buried."""
    task = make_task(url=url, on_dead=url)
    assert task.lane.queue == "default"
    dead = make_ended("dead", TaskState.DEAD, url=url, last_error=error)
    assert dead.failure_group == group_of(queue="default", url=url, status=None, error=error)
    assert "secret" not in dead.failure_group.url_path


@contextmanager
def refusing_port() -> Iterator[int]:
    """Yield a port that is bound but refuses connections."""
    with closing(socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def attempt(url: str) -> Outcome:
    """Return the outcome of an attempt over HTTP."""
    sender = HttpSender(connect_timeout=5.0, now=lambda: NOW)
    try:
        request = Request(method="POST", url=url, headers={}, body=b"", timeout=5.0)
        return await sender.send(request)
    finally:
        await sender.close()
