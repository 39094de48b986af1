"""``write_request``: a request as bytes (RFC 9112)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from poussetaches.core.request_target import request_target
from poussetaches.core.target import parse_target
from poussetaches.http_client.errors import InvalidRequest

_METHODS_WITH_BODY = ("POST", "PUT", "PATCH")
_USERINFO = re.compile(r"[^/]+//([^/?#]*)@")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2


def write_request(method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a request for a URL that ``parse_target`` accepts.

    The user and password of the URL become the header Authorization, unless there is one.

    Raises:
        InvalidRequest: the method or a header is invalid.
    """
    for name in headers:
        if not _is_token(name):
            raise InvalidRequest(f"{name!r} is not a valid name of a header")
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if fields.count("\n") + fields.count("\r") + fields.count("\0") > 2 * len(headers):
        raise InvalidRequest("the value of a header contains a line end or a NUL")
    if "@" in url and not any(name.lower() == "authorization" for name in headers):
        fields += _authorization(url)
    # Some servers require the length of an empty body (RFC 9110, section 8.6).
    if body or method in _METHODS_WITH_BODY:
        fields += f"Content-Length: {len(body)}\r\n"
    try:
        head = f"{_begin(method, url)}{fields}\r\n".encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest("the value of a header contains half a surrogate pair") from exc
    return head + body if body else head


@lru_cache(maxsize=4096)
def _begin(method: str, url: str) -> str:
    if not _is_token(method):
        raise InvalidRequest(f"{method!r} is not a valid method")
    target = parse_target(url)
    host = target.authority.removesuffix(":80" if target.scheme == "http" else ":443")
    return f"{method} {request_target(url)} HTTP/1.1\r\nHost: {host}\r\n"


def _authorization(url: str) -> str:
    """Return the header for the user and password of a URL (RFC 7617), empty without these."""
    match = _USERINFO.match(url)
    if match is None:
        return ""
    user, _, password = match[1].partition(":")
    credentials = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return f"Authorization: Basic {base64.b64encode(credentials).decode()}\r\n"


@lru_cache(maxsize=1024)
def _is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None
