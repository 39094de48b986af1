"""Merge patches: the examples of RFC 7396, and what they leave alone."""

from __future__ import annotations

import msgspec
import pytest

from poussetaches.core.merge_patch import merged


# RFC 7396, appendix A; a removal at the top is no document any more.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        (b'{"a":"b"}', b'{"a":"c"}', b'{"a":"c"}'),
        (b'{"a":"b"}', b'{"b":"c"}', b'{"a":"b","b":"c"}'),
        (b'{"a":"b"}', b'{"a":null}', b"{}"),
        (b'{"a":"b","b":"c"}', b'{"a":null}', b'{"b":"c"}'),
        (b'{"a":["b"]}', b'{"a":"c"}', b'{"a":"c"}'),
        (b'{"a":"c"}', b'{"a":["b"]}', b'{"a":["b"]}'),
        (b'{"a":{"b":"c"}}', b'{"a":{"b":"d","c":null}}', b'{"a":{"b":"d"}}'),
        (b'{"a":[{"b":"c"}]}', b'{"a":[1]}', b'{"a":[1]}'),
        (b'["a","b"]', b'["c","d"]', b'["c","d"]'),
        (b'{"a":"b"}', b'["c"]', b'["c"]'),
        (b'{"a":"foo"}', b"null", b"null"),
        (b'{"a":"foo"}', b'"bar"', b'"bar"'),
        (b'{"e":null}', b'{"a":1}', b'{"e":null,"a":1}'),
        (b"[1,2]", b'{"a":"b","c":null}', b'{"a":"b"}'),
        (b"{}", b'{"a":{"bb":{"ccc":null}}}', b'{"a":{"bb":{}}}'),
    ],
)
def test_patch_does_what_the_standard_says(target: bytes, patch: bytes, result: bytes) -> None:
    assert msgspec.json.decode(merged(target, patch)) == msgspec.json.decode(result)


def test_what_a_patch_leaves_alone_stays_as_it_was_written() -> None:
    target = b'{"large": 123456789012345678901234567890, "exact": 1.10, "list": [1,  2], "a": 1}'

    assert merged(target, b'{"a": 2}') == (
        b'{"large":123456789012345678901234567890,"exact":1.10,"list":[1,  2],"a":2}'
    )
