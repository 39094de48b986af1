"""JSON merge patches (RFC 7396), applied to JSON text without changing its other parts."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Document = dict[str, msgspec.Raw]  # an object, whose values are JSON text

document_in = msgspec.json.Decoder(Document).decode


def merged(target: bytes, patch: bytes) -> bytes:
    """Return a JSON text with a merge patch applied: null removes, objects go by their names."""
    if not is_object(patch):
        return patch
    known = document_in(target) if is_object(target) else {}
    return msgspec.json.encode(merged_document(known, document_in(patch)))


def merged_document(target: Mapping[str, msgspec.Raw], patch: Document) -> Document:
    """Return an object with a merge patch applied."""
    document = dict(target)
    for name, change in patch.items():
        if is_null(change):
            document.pop(name, None)
        else:
            known = bytes(document[name]) if name in document else b""
            document[name] = msgspec.Raw(merged(known, bytes(change)))
    return document


def is_null(value: msgspec.Raw) -> bool:
    """Return whether a JSON text is null."""
    return bytes(value) == b"null"


def is_object(json: bytes) -> bool:
    """Return whether a JSON text is an object."""
    return json.lstrip()[:1] == b"{"
