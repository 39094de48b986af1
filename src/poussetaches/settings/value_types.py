"""The types of settings: the values that each allows, and how it reads text and TOML values.

Text means the same in a flag, in the environment and in the file.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, get_args

from msgspec import Meta

from poussetaches.core.errors import InvalidTask
from poussetaches.core.queue import MAX_RATE, MIN_RATE, parse_rate
from poussetaches.core.signature import secret_bytes
from poussetaches.core.target import check_absolute_url, check_base_url
from poussetaches.core.target_allowlist import parse_rule

T_co = TypeVar("T_co", covariant=True)

MIN_SECRET = 16  # bytes; a shorter one can be guessed
MAX_SECRETS = 2  # the new and the old one, during a rotation

HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # RFC 9110, 5.6.2
# IPv6 addresses have at least two colons, so a port given by mistake ("example.com:443") is found.
HOST_NAME = r"[A-Za-z0-9_.-]+|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*"


class ValueType(Protocol[T_co]):
    """The type of a setting's value."""

    @property
    def metavar(self) -> str:
        """The placeholder for a value in ``--help``."""

    @property
    def allowed(self) -> str:
        """The allowed values, as the end of a sentence that begins with "give"."""

    def read(self, raw: object) -> T_co:
        """Return the value of a text or of a TOML value.

        Raises:
            ValueError: it is not allowed.
        """


@dataclass(frozen=True)
class Text:
    """Printable text that matches a pattern."""

    allowed: str = "some text without control characters"
    pattern: str = ".+"
    metavar: str = "TEXT"

    def read(self, raw: object) -> str:
        if isinstance(raw, str) and raw.isprintable() and re.fullmatch(self.pattern, raw):
            return raw
        raise ValueError


@dataclass(frozen=True)
class FilePath:
    """A path; a relative one starts at the server's current folder."""

    max_length: int | None = None  # bytes
    metavar: str = "PATH"

    @property
    def allowed(self) -> str:
        return (
            "a path" if self.max_length is None else f"a path of at most {self.max_length} bytes"
        )

    def read(self, raw: object) -> Path:
        path = Path(Text().read(raw))
        if self.max_length is not None and len(os.fsencode(path)) > self.max_length:
            raise ValueError
        return path


@dataclass(frozen=True)
class Integer:
    """A whole number in a range."""

    minimum: int
    maximum: int
    metavar: str = "INTEGER"

    @classmethod
    def within(cls, annotation: object) -> Integer:
        """Return the type that has the range of an annotation of the API."""
        minimum, maximum = _range(annotation)
        return cls(int(minimum), int(maximum))

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
    """A finite number in a range, whole or not."""

    minimum: float
    maximum: float
    metavar: str = "NUMBER"

    @classmethod
    def within(cls, annotation: object) -> Number:
        """Return the type that has the range of an annotation of the API."""
        return cls(*_range(annotation))

    @property
    def allowed(self) -> str:
        return f"a number from {env_text(self.minimum)} to {env_text(self.maximum)}"

    def read(self, raw: object) -> float:
        number = _finite_number(raw)
        if not self.minimum <= number <= self.maximum:
            raise ValueError
        return number


@dataclass(frozen=True)
class Boolean:
    """True or false."""

    allowed: str = "true or false"
    metavar: str = ""

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
    """A number per second; as text also per another unit of time."""

    allowed: str = 'attempts per second from 0.000001 to 1000000, or a text like "100/h", "30/min"'
    metavar: str = "RATE"

    def read(self, raw: object) -> float:
        if not isinstance(raw, str) or "/" not in raw:
            return Number(MIN_RATE, MAX_RATE).read(raw)
        rate = parse_rate(raw)
        if rate is None:
            raise ValueError
        return rate


@dataclass(frozen=True)
class TextList:
    """A list of texts, each in lower case; a text may be a comma-separated list."""

    allowed: str
    metavar: str
    pattern: str = ".+"
    check: Callable[[str], object] | None = None  # raises ValueError

    def read(self, raw: object) -> tuple[str, ...]:
        text = Text(pattern=self.pattern)
        items = tuple(text.read(item).lower() for item in _list_items(raw))
        if self.check is not None:
            for item in items:
                self.check(item)
        return items


HOSTS = TextList("host names without scheme, port and path", "HOST", HOST_NAME)
HOST_PATTERNS = TextList(
    'host names without port, or patterns like "*.example.com"',
    "HOST",
    rf"(\*\.)?({HOST_NAME})",
)
HEADER_NAMES = TextList("header names", "HEADER", HEADER_NAME)
TARGETS = TextList(
    'names ("api.example.com", "*.example.com") and networks ("10.0.0.0/8", "127.0.0.1", '
    '"[::1]"), each with an optional port (":8000")',
    "TARGET",
    check=parse_rule,
)


@dataclass(frozen=True)
class Url:
    """An absolute URL; a base URL has neither query nor fragment."""

    is_base: bool = False
    metavar: str = "URL"

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
    """One secret, or two with the new one first; the value is the keys that they encode."""

    allowed: str = (
        "one secret, or two separated by a comma: whsec_ and base64, or text of at least"
        f" {MIN_SECRET} characters"
    )
    metavar: str = "SECRET"

    def read(self, raw: object) -> tuple[bytes, ...]:
        keys = tuple(secret_bytes(Text().read(item)) for item in _list_items(raw))
        if len(keys) > MAX_SECRETS or any(len(key) < MIN_SECRET for key in keys):
            raise ValueError
        return keys


@dataclass(frozen=True)
class Statuses:
    """A list of HTTP statuses and classes of statuses; a text may be a comma-separated list."""

    allowed: str = 'statuses from 100 to 599, or classes like "4xx"'
    metavar: str = "STATUS"

    def read(self, raw: object) -> tuple[int | str, ...]:
        return tuple(self._read_item(item) for item in _list_items(raw))

    def _read_item(self, raw: object) -> int | str:
        if isinstance(raw, str) and re.fullmatch("[1-5]xx", raw):
            return raw
        return Integer(100, 599).read(raw)


def env_text(value: object) -> str:
    """Return a value as it is written in the environment."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value) or "empty"
    return str(value)


def _range(annotation: object) -> tuple[float, float]:
    meta = next(each for each in get_args(annotation) if isinstance(each, Meta))
    if meta.ge is None or meta.le is None:
        raise TypeError(f"{annotation} has no range")
    return meta.ge, meta.le


def _finite_number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError
    try:
        number = float(raw)
    except OverflowError as exc:
        raise ValueError from exc
    if not math.isfinite(number):
        raise ValueError
    return number


def _list_items(raw: object) -> list[object]:
    """Return the items of a list; each may be a comma-separated text."""
    items: list[object] = []
    for item in raw if isinstance(raw, list | tuple) else [raw]:
        if isinstance(item, str):
            items += [part.strip() for part in item.split(",")]
        else:
            items.append(item)
    return items
