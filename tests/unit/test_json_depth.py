"""The depth of nested JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.core.json_depth import MAX_DEPTH, is_too_deep

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('[]{}"\\abé'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\'), inner),
    max_leaves=40,
)


@given(value=JSON, around=st.integers(MAX_DEPTH - 3, MAX_DEPTH + 1))
def test_depth_counts_arrays_and_objects_only(value: Any, around: int) -> None:
    for level in range(around):
        value = [value] if level % 3 else {"]": value, "[": "{["}

    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert is_too_deep(text.encode()) is (depth(value) > MAX_DEPTH)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@pytest.mark.parametrize("inside", ['"]"', '"\\\\"', r'"\"["', r'"\\\"{"', '""', '"["'])
def test_brackets_in_strings_are_not_nesting(inside: str) -> None:
    around = "[" * (MAX_DEPTH - 1)
    text = f"{around}[{inside},{inside}]{around.replace('[', ']')}"
    json.loads(text)

    assert not is_too_deep(text.encode())
    assert is_too_deep(f"[{text}]".encode())
