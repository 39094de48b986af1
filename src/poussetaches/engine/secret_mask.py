"""Masks the server's secrets in applications' answers, also escaped or encoded ones."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from html.entities import html5
from typing import NamedTuple

from poussetaches.core.headers import MASKED

SHORTEST_MASKED = 8  # characters; a shorter secret may be an ordinary word of an answer
MAX_LAYERS = 4  # nested escapes, such as a URL in JSON in HTML
# Bytes of an answer per byte of a secret in its longest escape. More is read than is kept, so that
# a secret across the cut is recognised.
LONGEST_ESCAPE = 16
LAST_BYTE = 0xFF

# One escaped character of URLs, HTML, JSON and most languages' string literals. Each alternative
# begins with a literal character, which makes the search fast.
_ESCAPE = re.compile(
    rb"%(?:u00)?(?P<url>[0-9a-fA-F]{2})"
    rb"|&#(?P<decimal>[0-9]{1,9});?|&#[xX](?P<hex>[0-9a-fA-F]{1,8});?|&(?P<name>[a-zA-Z]{2,8});"
    rb"|\\\\*(?:(?:u00|x)(?P<code>[0-9a-fA-F]{2})|u\{0*(?P<braced>[0-9a-fA-F]{2})\}"
    rb"|(?P<octal>[0-7]{3})|[nr]|)"
)
_LINE_ENDS = b"\r\n"  # base64 is often broken into lines
_NAMED = {
    name.removesuffix(";").encode(): character.encode()
    for name, character in html5.items()
    if character.isascii() and len(character) == 1
}
_BASES = {"url": 16, "decimal": 10, "hex": 16, "code": 16, "braced": 16, "octal": 8}
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class SecretMask:
    """Replaces secrets by ``***``."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        # A text is searched before and after its escapes are resolved, so a secret that itself
        # looks like an escape is searched for in both forms.
        resolved = {form for form in map(_resolved, forms) if len(form) >= SHORTEST_MASKED}
        self._forms = sorted(forms | resolved)
        # Bytes beyond a cut that are needed to mask a secret across it.
        self.margin = LONGEST_ESCAPE * max(map(len, self._forms), default=0)

    def cut(self, text: bytes, limit: int) -> bytes:
        """Return the first bytes of a text, with the secrets that begin there masked."""
        kept, end = bytearray(), 0
        for span in self._spans(text):
            if span.start >= limit:
                break
            kept += text[end : span.start] + MASKED.encode()
            end = span.end
        return bytes(kept) + text[end:limit]

    def masked(self, text: str) -> str:
        """Return a text with its secrets masked."""
        raw = text.encode(errors="surrogateescape")
        return self.cut(raw, len(raw)).decode(errors="surrogateescape")

    def _spans(self, text: bytes) -> list[_Span]:
        """Return where the secrets are, in order and without overlaps."""
        if len(text) < SHORTEST_MASKED or not self._is_in(text):
            return []
        found = [span for layer in _located_layers(text) for span in layer.spans_of(self._forms)]
        merged: list[_Span] = []
        for span in sorted(found):
            if merged and span.start <= merged[-1].end:
                merged[-1] = _Span(merged[-1].start, max(merged[-1].end, span.end))
            else:
                merged.append(span)
        return merged

    def _is_in(self, text: bytes) -> bool:
        """Return whether a text contains a secret. Few do, so this must be fast."""
        if not self._forms:
            return False
        return any(form in layer for layer in _layers(text) for form in self._forms)


class _Span(NamedTuple):
    """A part of a text."""

    start: int
    end: int


class _Layer(NamedTuple):
    """A text with escapes resolved, and the span of each of its bytes in the original."""

    text: bytes
    spans: list[_Span]

    def spans_of(self, forms: Iterable[bytes]) -> Iterator[_Span]:
        """Yield the spans in the original where forms are found."""
        for form in forms:
            at = self.text.find(form)
            while at >= 0:
                last = at + len(form) - 1
                yield _Span(self.spans[at].start, self.spans[last].end)
                at = self.text.find(form, at + 1)

    def without_line_ends(self) -> _Layer:
        """Return the layer without line ends."""
        kept = [at for at, byte in enumerate(self.text) if byte not in _LINE_ENDS]
        return _Layer(self.text.translate(None, _LINE_ENDS), [self.spans[at] for at in kept])

    def resolved(self) -> _Layer:
        """Return the layer with its escapes resolved."""
        text, spans, end = bytearray(), [], 0
        for match in _ESCAPE.finditer(self.text):
            character = _character(match)
            text += self.text[end : match.start()] + character
            spans += self.spans[end : match.start()]
            if character:
                whole = _Span(self.spans[match.start()].start, self.spans[match.end() - 1].end)
                spans += [whole] * len(character)
            end = match.end()
        return _Layer(bytes(text) + self.text[end:], spans + self.spans[end:])


def _layers(text: bytes) -> Iterator[bytes]:
    """Yield a text, the text on one line, and the result of each round of resolving escapes."""
    yield text
    if b"\n" in text or b"\r" in text:
        text = text.translate(None, _LINE_ENDS)
        yield text
    for _ in range(MAX_LAYERS):
        resolved = _ESCAPE.sub(_character, text)
        if resolved == text:
            return
        text = resolved
        yield text


def _located_layers(text: bytes) -> Iterator[_Layer]:
    """Yield the same layers as ``_layers``, with the position of each byte. Much slower."""
    layer = _Layer(text, [_Span(at, at + 1) for at in range(len(text))])
    yield layer
    layer = layer.without_line_ends()
    yield layer
    for _ in range(MAX_LAYERS):
        resolved = layer.resolved()
        if resolved.text == layer.text:
            return
        layer = resolved
        yield layer


def _resolved(text: bytes) -> bytes:
    *_, last = _layers(text)
    return last


def _character(match: re.Match[bytes]) -> bytes:
    """Return the byte that an escape stands for; leave escapes of wider characters unchanged."""
    kind = match.lastgroup
    if kind is None:
        return b""
    if kind == "name":
        return _NAMED.get(match["name"], match[0])
    number = int(match[kind], _BASES[kind])
    return bytes([number]) if number <= LAST_BYTE else match[0]


def _forms(secret: bytes) -> Iterator[bytes]:
    """Yield a secret as it is, in hex, and in base64 at each of the three alignments."""
    if len(secret) < SHORTEST_MASKED:
        return
    yield secret
    yield secret.replace(b" ", b"+")
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for encoded in (
        base64.b64encode(secret).rstrip(b"="),
        *(_base64_at(secret, shift) for shift in range(3)),
    ):
        yield encoded
        yield encoded.translate(_URL_SAFE)


def _base64_at(secret: bytes, shift: int) -> bytes:
    """Return a secret in base64 after ``shift`` bytes, less the digits that neighbours affect."""
    encoded = base64.b64encode(bytes(shift) + secret)
    first = (0, 2, 3)[shift]
    return encoded[first : 8 * (shift + len(secret)) // 6]
