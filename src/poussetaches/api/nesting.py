"""How deep the arrays and objects of a JSON text are nested.

Bodies are large, and nothing else happens while one is looked at. So texts are gone over a fixed
number of times, each time in C.
"""

from __future__ import annotations

from array import array
from itertools import accumulate

MAX_DEPTH = 64  # of arrays and objects within each other

_OPENING = bytes.maketrans(b"{}", b"[]")
_IRRELEVANT = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")  # as signed bytes: one deeper, one less deep


def is_too_deep(json: bytes) -> bool:
    """Return whether a JSON text is nested more than 64 deep."""
    if json.count(b"[") + json.count(b"{") <= MAX_DEPTH:
        return False
    found, _ = brackets(json)
    # Most of them hold no others. Without these, the rest is one less deep.
    return max(depths(found.replace(b"[]", b""), start=1)) > MAX_DEPTH


def brackets(json: bytes, *, is_in_string: bool = False) -> tuple[bytes, bool]:
    """Return the brackets outside of strings, braces as brackets; and whether it ends in one.

    ``is_in_string`` says whether the text begins within a string.
    """
    if b"\\" in json:
        # In this order: a quote behind an escaped backslash ends its string.
        json = json.replace(rb"\\", b"").replace(rb"\"", b"")
    text = json.translate(_OPENING, _IRRELEVANT)
    text = text.replace(b'""', b"")  # what is between the others is within a string, or is not
    parts = text.split(b'"')
    has_odd_quotes = len(parts) % 2 == 0
    return b"".join(parts[is_in_string::2]), is_in_string != has_odd_quotes


def depths(found: bytes, *, start: int) -> accumulate[int]:
    """Return the depth before the first bracket and behind each."""
    return accumulate(array("b", found.translate(_STEPS)), initial=start)
