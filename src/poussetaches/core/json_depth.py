"""The nesting depth of JSON texts.

Bodies can be large, and this blocks the event loop. So each step is one pass over the text in C.
"""

from __future__ import annotations

from array import array
from itertools import accumulate

MAX_DEPTH = 64  # of arrays and objects within each other

_OPENING = bytes.maketrans(b"{}", b"[]")
_IRRELEVANT = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")  # as signed bytes: one deeper, one less deep


def is_too_deep(json: bytes, *, limit: int = MAX_DEPTH) -> bool:
    """Return whether a JSON text is nested deeper than a limit."""
    if json.count(b"[") + json.count(b"{") <= limit:
        return False
    found, _ = brackets(json)
    # Most pairs are empty by now; removing them shortens the text, and reduces the depth by one.
    return max(depths(found.replace(b"[]", b""), start=1)) > limit


def brackets(json: bytes, *, is_in_string: bool = False) -> tuple[bytes, bool]:
    """Return the brackets outside strings, braces as brackets, and whether it ends in a string.

    ``is_in_string`` says whether the text begins inside a string.
    """
    if b"\\" in json:
        # In this order: a quote after an escaped backslash ends its string.
        json = json.replace(rb"\\", b"").replace(rb"\"", b"")
    text = json.translate(_OPENING, _IRRELEVANT)
    text = text.replace(b'""', b"")  # the remaining quotes begin and end strings in turn
    parts = text.split(b'"')
    has_odd_quotes = len(parts) % 2 == 0
    return b"".join(parts[is_in_string::2]), is_in_string != has_odd_quotes


def depths(found: bytes, *, start: int) -> accumulate[int]:
    """Return the depth before the first bracket and after each."""
    return accumulate(array("b", found.translate(_STEPS)), initial=start)
