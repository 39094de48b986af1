"""The only parser of tasks' URLs: validation, origin and path.

All code that needs a part of a URL gets it from here. The rules for pushes are stricter than the
parser: a row that an earlier version stored must still have an origin and a path.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from poussetaches.core.errors import InvalidTask
from poussetaches.core.hosts import address_of

MAX_URL = 8192  # characters as sent; common HTTP servers accept a request line of this length
MAX_HOST = 253  # characters; RFC 1035's 255 bytes in a message
MAX_PORT = 65_535

_ANYWHERE = "http://base.invalid"  # stands for any base URL
_TOO_LONG = f"is longer than {MAX_URL} characters when percent-encoded"
_NOT_ENCODED = (
    "has a character in the user or password that must be percent-encoded, such as [ as %5B"
)
_ASCII = "".join(map(chr, range(128)))
_PORTS = {"http": 80, "https": 443}
# Stricter than urlsplit: the HTTP client must never see another host than this parser.
_URL = re.compile(
    r"(https?)://(?:[^/?#]*@)?(\[[0-9a-f:.]+\]|[^/?#@:\[\]]*)(?::([0-9]{0,5}))?(?:[/?#].*)?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
# RFC 3986, section 3.2.1, and the @: the last one ends the userinfo, for us as for HTTP clients.
# Parsers disagree about brackets, and about characters that Unicode normalisation turns into an @
# or a slash.
_USERINFO = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:%@-]*")
_PATH = re.compile(r"(?:[a-z][a-z0-9+.-]*://[^/?#]*)?([^?#]*)", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(https?://)([^/?#]*)@", re.IGNORECASE)
_ANY_CREDENTIALS = re.compile(r"//.*@", re.DOTALL)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")
_FORBIDDEN_REASON = "contains a space, a backslash, a control character or half a surrogate pair"
# The networks that a key may be sent to. Not ``is_private``, which differs between versions of
# Python, and includes ranges that are merely reserved.
_PRIVATE = [
    ipaddress.ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("0.0.0.0/32", "::/128", "::1/128", "fc00::/7", "fe80::/10"),
    )
]


class Target(NamedTuple):
    """The parts of a URL that make its origin."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port as one text, the port always written out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port as one text."""
        return f"{self.scheme}://{self.authority}"

    @property
    def is_private(self) -> bool:
        """Whether the host as written is this machine, in a private network, or a bare name."""
        return _is_private(self.host)


@lru_cache(maxsize=4096)
def parse_target(url: str) -> Target:
    """Return the target of a URL.

    Raises:
        InvalidTask: the URL is not an absolute http or https URL that can be sent to.
    """
    if len(url) > MAX_URL:
        raise InvalidTask("url", _TOO_LONG)
    if _FORBIDDEN.search(url):
        raise InvalidTask("url", _FORBIDDEN_REASON)
    match = _URL.fullmatch(url)
    if match is None:
        if not _has_scheme(url):
            raise InvalidTask("url", "must begin with http:// or https://")
        raise InvalidTask("url", "must have a host, or a host and a port, after //")
    scheme = match[1].lower()
    port = int(match[3]) if match[3] else _PORTS[scheme]
    if not 1 <= port <= MAX_PORT:
        raise InvalidTask("url", "the port must be from 1 to 65535")
    return Target(scheme, _checked_host(match[2]), port)


def is_path(url: str) -> bool:
    """Return whether a task's URL is a path, relative to its queue's ``base_url``."""
    return url.startswith("/")


@lru_cache(maxsize=4096)
def check_url(url: str) -> None:
    """Check a URL that is pushed: it must be absolute, or a path.

    Raises:
        InvalidTask: it is neither, or other parsers may read it differently.
    """
    if not is_path(url):
        if not _FORBIDDEN.search(url) and not _has_scheme(url):
            raise InvalidTask("url", "must begin with /, http:// or https://")
        check_absolute_url(url)
        return
    if url.startswith("//"):
        raise InvalidTask("url", "begins with //; begin a path with a single slash")
    check_absolute_url(_ANYWHERE + url)


def check_absolute_url(url: str) -> None:
    """Check a URL that is pushed where a path is not allowed.

    Raises:
        InvalidTask: it is not absolute, or other parsers may read it differently.
    """
    parse_target(url)
    if "@" in url:
        userinfo = _CREDENTIALS.match(url)
        if userinfo is not None and not _USERINFO.fullmatch(userinfo[2]):
            raise InvalidTask("url", _NOT_ENCODED)
    if not url.isascii() and len(quote(url, safe=_ASCII)) > MAX_URL:
        raise InvalidTask("url", _TOO_LONG)


def check_stored_url(url: str) -> None:
    """Check a stored URL. Every URL that any version accepted is allowed.

    Raises:
        InvalidTask: nothing can be sent to it.
    """
    parse_target(_ANYWHERE + url if is_path(url) else url)


def check_base_url(url: str) -> None:
    """Check a base URL, which paths are appended to.

    Raises:
        InvalidTask: ``check_absolute_url`` refuses it, or it has a query or a fragment.
    """
    check_absolute_url(url)
    if "?" in url or "#" in url:
        raise InvalidTask("base_url", "must have no query and no fragment")


def absolute_url(base_url: str, url: str) -> str:
    """Return the URL of a path below a base URL; return an absolute URL unchanged."""
    return base_url.rstrip("/") + url if is_path(url) else url


@lru_cache(maxsize=4096)
def origin_of(url: str) -> str:
    """Return the origin of a URL: scheme, host and port. Never raises.

    It is ``""`` for a path, and for a URL that cannot be parsed: attempts at it fail.
    """
    if is_path(url):
        return ""
    try:
        return parse_target(url).origin
    except InvalidTask:
        return ""


def path_of(url: str) -> str:
    """Return the path of any URL, without its query. Never raises."""
    match = _PATH.match(url)
    return "" if match is None else match[1]


def without_credentials(url: str) -> str:
    """Return a URL for logs and messages, its user and password replaced by ``***``."""
    try:
        parse_target(url)
    except InvalidTask:
        # Where they end is unknown in a URL that cannot be parsed.
        return _ANY_CREDENTIALS.sub("//***@", url)
    return _CREDENTIALS.sub(r"\1***@", url, count=1)


def may_have_key(url: str, key_targets: Collection[str]) -> bool:
    """Return whether the shared key may be sent to a URL: private hosts and those named."""
    target = parse_target(url)
    return target.is_private or target.host in key_targets


@lru_cache(maxsize=4096)
def _is_private(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = address_of(host)
    if address is None:
        return "." not in host
    return any(address in network for network in _PRIVATE)


def _has_scheme(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _checked_host(host: str) -> str:
    if not host:
        raise InvalidTask("url", "has no host")
    if host.startswith("["):
        return _checked_address(host[1:-1], ipaddress.IPv6Address)
    if not host.isascii():
        raise InvalidTask("url", "write the host in its ASCII form (xn--…)")
    host = host.lower()
    # HTTP clients read a host that ends in a number as an IPv4 address, in odd notations too.
    if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return _checked_address(host, ipaddress.IPv4Address)
    if len(host) > MAX_HOST or not _NAME.fullmatch(host):
        raise InvalidTask("url", f"{host!r} is not a host name")
    return host


def _checked_address(
    host: str, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]
) -> str:
    try:
        return str(kind(host))
    except ValueError:
        raise InvalidTask("url", f"{host!r} is not an IP address") from None
