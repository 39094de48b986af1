"""The part of a URL that stands in a request line (RFC 9112, section 3.2.1), percent-encoded."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

# Characters that are sent unchanged: those of the URL Standard (url.spec.whatwg.org, section 1.3).
PATH_CHARACTERS = "/!$&'()*+,;=:@[]^|~"
_QUERY_CHARACTERS = PATH_CHARACTERS.replace("'", "") + "?\\`{}"

_URL = re.compile(r"[^:/?#]+://[^/?#]*([^?#]*)(?:\?([^#]*))?", re.DOTALL)
_HERE = re.compile(r"\.|%2e", re.IGNORECASE)
_UP = re.compile(r"(?:\.|%2e){2}", re.IGNORECASE)


class RequestTarget(NamedTuple):
    """Path and query of a request line. The query has no question mark; it may be empty."""

    path: str
    query: str

    def __str__(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


@lru_cache(maxsize=4096)
def request_target(url: str) -> RequestTarget:
    """Return the request target of an absolute URL that ``parse_target`` accepts.

    Segments ``.`` and ``..`` are resolved, as browsers and curl do (RFC 3986, section 5.2.4).
    """
    match = _URL.match(url)
    assert match is not None, "the URL was parsed before"
    path = quote(_without_dots(match[1] or "/"), safe=PATH_CHARACTERS + "%")
    return RequestTarget(path, quote(match[2] or "", safe=_QUERY_CHARACTERS + "%"))


def _without_dots(path: str) -> str:
    if "/." not in path and "/%2" not in path:
        return path
    kept: list[str] = []
    *folders, last = path.split("/")[1:]
    for segment in folders:
        if _UP.fullmatch(segment):
            del kept[-1:]
        elif not _HERE.fullmatch(segment):
            kept.append(segment)
    if _UP.fullmatch(last):
        del kept[-1:]
        last = ""
    elif _HERE.fullmatch(last):
        last = ""
    return "/" + "/".join([*kept, last])
