"""Groups of similar failures: same queue, path, status and error, ignoring numbers and names."""

from __future__ import annotations

import codecs
import hashlib
import re
from functools import lru_cache

import msgspec

from poussetaches.core.target import path_of

LONGEST_LINE = 200  # characters; of an answer's first line, or of an error

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)
_HEX = re.compile(r"\b(?:0x[0-9a-f]+|(?=[a-z]*[0-9])[0-9a-f]{8,})\b", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+(?:[.,:][0-9]+)*")
_VARIABLE_PART = re.compile(
    r"[0-9]+|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{12,}", re.IGNORECASE
)


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The properties that similar failing or dead tasks share."""

    queue: str
    url_path: str
    status: int | None
    error: str

    @property
    def id(self) -> str:
        """A stable id: the same failure always has the same 16 hex digits."""
        parts = (self.queue, self.url_path, str(self.status), self.error)
        text = "\0".join(parts).encode("utf-8", "replace")
        return hashlib.sha256(text).hexdigest()[:16]


def group_of(*, queue: str, url: str, status: int | None, error: str | None) -> FailureGroup:
    """Return the group of a failure, ignoring all but the first line of its error."""
    line = (error or "").partition("\n")[0][:LONGEST_LINE]
    return FailureGroup(
        queue=queue, url_path=common_path(url), status=status, error=common_error(line)
    )


def common_path(url: str) -> str:
    """Return a URL's path, with a star for each part that is a number, a UUID or long hex."""
    parts = path_of(url).split("/")
    return "/".join("*" if _VARIABLE_PART.fullmatch(part) else part for part in parts) or "/"


@lru_cache(maxsize=1000)  # an outage makes many tasks fail with the same error
def common_error(error: str) -> str:
    """Return an error with a star for each number, hex number and quoted text."""
    for variable in (_QUOTED, _UUID, _HEX, _NUMBER):
        error = variable.sub("*", error)
    return error


def first_line(body: bytes) -> str:
    """Return the first line of an answer that is not blank, cut to 200 characters."""
    # The decoder expects more input, so it omits a character that was cut.
    start, _ = codecs.utf_8_decode(body[: 16 * LONGEST_LINE], "replace")
    for line in start.splitlines():
        text = line if line.isprintable() else "".join(filter(str.isprintable, line))
        text = text.strip()
        if text:
            return text[:LONGEST_LINE]
    return ""
