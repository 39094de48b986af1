"""Error messages for redirects: the location, and the likely mistake in the URL."""

from __future__ import annotations

import re
from http import HTTPStatus
from urllib.parse import SplitResult, urljoin, urlsplit

REDIRECTS = (
    HTTPStatus.MOVED_PERMANENTLY,
    HTTPStatus.FOUND,
    HTTPStatus.SEE_OTHER,
    HTTPStatus.TEMPORARY_REDIRECT,
    HTTPStatus.PERMANENT_REDIRECT,
)
LONGEST_LOCATION = 200  # characters

_USER = re.compile(r"^((?:[a-z][a-z0-9+.-]*:)?//)[^/?#]*@", re.IGNORECASE)


def redirect_error(url: str, location: str) -> str:
    """Return the error message for a request that was redirected, with advice.

    It omits user, query and fragment of the location, which may contain secrets.
    """
    return (
        f"a redirect to {_shown(location)}, and redirects are not followed{_advice(url, location)}"
    )


def _shown(location: str) -> str:
    text = "".join(filter(str.isprintable, _USER.sub(r"\1", location)))
    address, has_query, _ = text.partition("#")[0].partition("?")
    shown = address if len(address) <= LONGEST_LOCATION else address[:LONGEST_LOCATION] + "…"
    return f"{shown}?…" if has_query else shown


def _advice(url: str, location: str) -> str:
    try:
        given, wanted = urlsplit(url), urlsplit(urljoin(url, location))
    except ValueError:  # the location is not a URL
        return ""
    if (given.scheme, wanted.scheme) == ("http", "https") and _is_same(given, wanted):
        return ": write the URL with https"
    if given.netloc == wanted.netloc and wanted.path == given.path + "/":
        return ": write the URL with a slash at the end of its path"
    if given.netloc == wanted.netloc and given.path == wanted.path + "/":
        return ": write the URL without the slash at the end of its path"
    return ""


def _is_same(given: SplitResult, wanted: SplitResult) -> bool:
    """Return whether two URLs have the same host and path."""
    return (given.hostname, given.path or "/") == (wanted.hostname, wanted.path or "/")
