"""Values stored as JSON, which keep the members that only other versions know.

Reading them checks no limits, since versions with other limits may have written them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

V = TypeVar("V")

_UNKNOWN = "~unknown"  # the JSON name of the field below; no version has a member of this name
_MARK = b'"~unknown":'

_encode = msgspec.json.encode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_items = msgspec.json.Decoder(list[Raw]).decode


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A value that keeps unknown members of its JSON, each as its text, to write them again."""

    unknown: Mapping[str, Raw] | UnsetType = msgspec.field(default=UNSET, name=_UNKNOWN)

    def upgraded(self) -> Stored:
        """Return the value with members of earlier versions, which are unknown, as they are now.

        It is called when JSON with unknown members is read.
        """
        return self


def encode(value: object) -> bytes:
    """Return a value as JSON, with the unknown members among the others."""
    text = _encode(value)
    # The mark may be part of a string, too: then merging changes nothing.
    return bytes(_merged(value, Raw(text))) if _MARK in text else text


def decode(decoder: msgspec.json.Decoder[V], text: str | bytes) -> V:
    """Return the value in a JSON text; its stored parts keep their unknown members.

    Raises:
        msgspec.MsgspecError: there is no such value in it.
        UnicodeDecodeError: it is not UTF-8.
    """
    value = decoder.decode(text)
    raw = text.encode() if isinstance(text, str) else text
    # Most texts were written by this version, and have no unknown members.
    if _encode(value) == raw:
        return value
    complete: V = _with_unknown(value, Raw(raw))
    return complete


def _merged(value: object, text: Raw) -> Raw:
    if isinstance(value, list | tuple):
        items = zip(value, _decode_items(text), strict=True)
        return Raw(_encode([_merged(item, raw) for item, raw in items]))
    if not isinstance(value, msgspec.Struct):
        return text
    members = _decode_members(text)
    for field in msgspec.structs.fields(value):
        if field.encode_name in members:
            part = getattr(value, field.name)
            members[field.encode_name] = _merged(part, members[field.encode_name])
    if isinstance(value, Stored) and value.unknown is not UNSET:
        del members[_UNKNOWN]
        members |= value.unknown
    return Raw(_encode(members))


def _with_unknown(value: Any, text: Raw) -> Any:
    if isinstance(value, list | tuple):
        items = zip(value, _decode_items(text), strict=True)
        return type(value)(_with_unknown(item, raw) for item, raw in items)
    if not isinstance(value, msgspec.Struct):
        return value
    members = _decode_members(text)
    changes: dict[str, object] = {}
    for field in msgspec.structs.fields(value):
        if field.encode_name in members:
            part = getattr(value, field.name)
            changes[field.name] = _with_unknown(part, members.pop(field.encode_name))
    if isinstance(value, Stored) and members:
        # Copies, since the others are views that keep the whole text in memory.
        changes["unknown"] = {name: raw.copy() for name, raw in members.items()}
    complete = msgspec.structs.replace(value, **changes)
    return complete.upgraded() if isinstance(complete, Stored) else complete
