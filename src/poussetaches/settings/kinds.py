"""The kinds of value that a setting can have: what is allowed, and how it is read.

Text means the same wherever it comes from: a flag, the environment, or a string in the file.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from poussetaches.core.errors import InvalidTask
from poussetaches.core.queue import MAX_RATE, MIN_RATE, parse_rate
from poussetaches.core.signature import secret_bytes
from poussetaches.core.target import check_absolute_url, check_base_url
from poussetaches.core.target_allowlist import parse_rule

SHORTEST_SECRET = 16  # bytes; a shorter one can be found by trying
MOST_SECRETS = 2  # the new one and the old one, while receivers change over

HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # RFC 9110, 5.6.2
# IPv6 addresses have at least two colons, so that a port given by mistake ("example.com:443")
# is noticed.
HOST_NAME = r"[A-Za-z0-9_.-]+|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*"


class Kind(Protocol):
    """One kind of value."""

    @property
    def metavar(self) -> str:
        """The value's place in ``--help``."""

    @property
    def allowed(self) -> str:
        """What is allowed, as the end of a sentence that begins with "give"."""

    @property
    def value_type(self) -> object:
        """The type of what ``read`` returns, as an annotation."""

    def read(self, raw: object) -> object:
        """Return the value of a text or of a TOML value.

        Raises:
            ValueError: it is not allowed.
        """


@dataclass(frozen=True)
class Text:
    """Some printable text that matches a pattern."""

    allowed: str = "some text without control characters"
    pattern: str = ".+"
    metavar: str = "TEXT"
    value_type: object = str

    def read(self, raw: object) -> str:
        if isinstance(raw, str) and raw.isprintable() and re.fullmatch(self.pattern, raw):
            return raw
        raise ValueError


@dataclass(frozen=True)
class PathName:
    """A path, relative ones to the folder that the server is started in."""

    longest: int | None = None  # bytes
    metavar: str = "PATH"
    value_type: object = Path

    @property
    def allowed(self) -> str:
        return "a path" if self.longest is None else f"a path of at most {self.longest} bytes"

    def read(self, raw: object) -> Path:
        path = Path(Text().read(raw))
        if self.longest is not None and len(os.fsencode(path)) > self.longest:
            raise ValueError
        return path


@dataclass(frozen=True)
class Integer:
    """A whole number."""

    minimum: int
    maximum: int
    metavar: str = "INTEGER"
    value_type: object = int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}"

    def read(self, raw: object) -> int:
        if isinstance(raw, str) and re.fullmatch("[+-]?[0-9]{1,20}", raw):
            raw = int(raw)
        # To Python, True and False are whole numbers.
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise ValueError
        if not self.minimum <= raw <= self.maximum:
            raise ValueError
        return raw


@dataclass(frozen=True)
class Number:
    """A finite number, whole or not."""

    minimum: float
    maximum: float
    metavar: str = "NUMBER"
    value_type: object = float

    @property
    def allowed(self) -> str:
        return f"a number from {shown(self.minimum)} to {shown(self.maximum)}"

    def read(self, raw: object) -> float:
        number = read_number(raw)
        if not self.minimum <= number <= self.maximum:
            raise ValueError
        return number


@dataclass(frozen=True)
class Boolean:
    """Yes or no."""

    allowed: str = "true or false"
    metavar: str = ""
    value_type: object = bool

    def read(self, raw: object) -> bool:
        if isinstance(raw, bool):
            return raw
        if isinstance(raw, str):
            words = {"true": True, "1": True, "yes": True, "on": True}
            words |= {"false": False, "0": False, "no": False, "off": False}
            if raw.lower() in words:
                return words[raw.lower()]
        raise ValueError


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]
    value_type: object = str

    @property
    def metavar(self) -> str:
        return "|".join(self.words)

    @property
    def allowed(self) -> str:
        return f"{', '.join(self.words[:-1])} or {self.words[-1]}"

    def read(self, raw: object) -> str:
        if raw in self.words:
            return str(raw)
        raise ValueError


@dataclass(frozen=True)
class Rate:
    """So many a second; also written as so many in a unit of time."""

    allowed: str = 'attempts a second from 0.000001 to 1000000, or like "100/h", "30/min", "2/s"'
    metavar: str = "RATE"
    value_type: object = float

    def read(self, raw: object) -> float:
        if not isinstance(raw, str) or "/" not in raw:
            return Number(MIN_RATE, MAX_RATE).read(raw)
        rate = parse_rate(raw)
        if rate is None:
            raise ValueError
        return rate


@dataclass(frozen=True)
class Hosts:
    """A list of host names, in lower case as a parsed URL has them.

    It is comma separated where a list cannot be written.
    """

    allowed: str = "host names without scheme, port and path"
    metavar: str = "HOST"
    value_type: object = tuple[str, ...]

    def read(self, raw: object) -> tuple[str, ...]:
        return tuple(Text(pattern=HOST_NAME).read(item).lower() for item in read_items(raw))


@dataclass(frozen=True)
class HostPatterns:
    """A list of host names in lower case, each of which may stand for all names below it."""

    allowed: str = 'host names without port, or like "*.example.com"'
    metavar: str = "HOST"
    value_type: object = tuple[str, ...]

    def read(self, raw: object) -> tuple[str, ...]:
        pattern = rf"(\*\.)?({HOST_NAME})"
        return tuple(Text(pattern=pattern).read(item).lower() for item in read_items(raw))


@dataclass(frozen=True)
class Targets:
    """A list of names and networks, in lower case."""

    allowed: str = (
        'names ("api.example.com", "*.example.com") and networks ("10.0.0.0/8", "127.0.0.1", '
        '"[::1]"), each with a port behind it or without (":8000")'
    )
    metavar: str = "TARGET"
    value_type: object = tuple[str, ...]

    def read(self, raw: object) -> tuple[str, ...]:
        items = tuple(Text().read(item).lower() for item in read_items(raw))
        for item in items:
            parse_rule(item)
        return items


@dataclass(frozen=True)
class HeaderNames:
    """A list of names of headers, in lower case."""

    allowed: str = "names of headers"
    metavar: str = "HEADER"
    value_type: object = tuple[str, ...]

    def read(self, raw: object) -> tuple[str, ...]:
        return tuple(Text(pattern=HEADER_NAME).read(item).lower() for item in read_items(raw))


@dataclass(frozen=True)
class Url:
    """An absolute URL; paths can be put behind a base."""

    is_base: bool = False
    metavar: str = "URL"
    value_type: object = str

    @property
    def allowed(self) -> str:
        url = "a URL that begins with http:// or https://"
        return f"{url}, without query and fragment" if self.is_base else url

    def read(self, raw: object) -> str:
        url = Text().read(raw)
        try:
            (check_base_url if self.is_base else check_absolute_url)(url)
        except InvalidTask as exc:
            raise ValueError from exc
        return url


@dataclass(frozen=True)
class SigningSecrets:
    """One secret, or two of which the first is the new one; read as the keys they stand for."""

    allowed: str = (
        "one secret, or two with a comma between them: base64 behind whsec_, or text of at least "
        "16 characters"
    )
    metavar: str = "SECRET"
    value_type: object = tuple[bytes, ...]

    def read(self, raw: object) -> tuple[bytes, ...]:
        keys = tuple(secret_bytes(Text().read(item)) for item in read_items(raw))
        if len(keys) > MOST_SECRETS or any(len(key) < SHORTEST_SECRET for key in keys):
            raise ValueError
        return keys


@dataclass(frozen=True)
class Statuses:
    """A list of statuses and classes of statuses, comma separated where need be."""

    allowed: str = 'statuses from 100 to 599 or classes like "4xx"'
    metavar: str = "STATUS"
    value_type: object = tuple[int | str, ...]

    def read(self, raw: object) -> tuple[int | str, ...]:
        return tuple(self._read_item(item) for item in read_items(raw))

    def _read_item(self, raw: object) -> int | str:
        if isinstance(raw, str) and re.fullmatch("[1-5]xx", raw):
            return raw
        return Integer(100, 599).read(raw)


def read_number(raw: object) -> float:
    """Return a finite number, from a number or its text."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError
    try:
        number = float(raw)
    except OverflowError as exc:
        raise ValueError from exc
    if not math.isfinite(number):
        raise ValueError
    return number


def read_items(raw: object) -> list[object]:
    """Return the items of a list, each of which may be a comma separated text."""
    items: list[object] = []
    for item in raw if isinstance(raw, list | tuple) else [raw]:
        if isinstance(item, str):
            items += [part.strip() for part in item.split(",")]
        else:
            items.append(item)
    return items


def shown(value: object) -> str:
    """Return a value as it would be written in the environment."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value) or "empty"
    return str(value)
