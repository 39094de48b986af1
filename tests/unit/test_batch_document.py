"""Batches in JSON are split into tasks while they arrive."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.api.batch_document import BLOCK, GROUP, BatchDocument, UndecodedBatch
from poussetaches.api.problems import Problem

MOST = 10_000
SMALL = st.integers(1, 40)  # bytes, so that cuts are everywhere

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('[]{}",:\\aé😀'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[{"\\,'), inner),
    max_leaves=20,
)
INDENTS = st.sampled_from([None, 0, 1])


def cut(document: bytes, *, piece: int, group: int, block: int) -> list[bytes]:
    """Return the tasks of a document that arrives in pieces."""
    batch = BatchDocument(max_task=MOST, group=group, block=block)
    found: list[msgspec.Raw] = []
    for start in range(0, len(document), piece):
        batch.add(document[start : start + piece])
        while tasks := batch.group():
            found += tasks
    found += batch.rest()
    return [bytes(task) for task in found]


def decoded(document: bytes) -> list[bytes]:
    """Return the tasks of a document that is decoded at once."""
    return [bytes(task) for task in msgspec.json.decode(document, type=UndecodedBatch).tasks]


@given(values=st.lists(VALUES, max_size=8), indent=INDENTS, piece=SMALL, group=SMALL, block=SMALL)
def test_tasks_are_those_of_the_document(
    values: list[Any], indent: int | None, piece: int, group: int, block: int
) -> None:
    for is_ascii in (True, False):
        text = json.dumps({"tasks": values}, indent=indent, ensure_ascii=is_ascii)

        found = cut(text.encode(), piece=piece, group=group, block=block)

        assert [json.loads(task) for task in found] == values


@given(
    values=st.lists(VALUES, max_size=4),
    place=st.floats(0, 1),
    length=st.integers(0, 3),
    inserted=st.text('[]{}",:\\0 ', max_size=3),
    piece=SMALL,
    group=SMALL,
)
def test_damaged_document_is_refused(  # noqa: PLR0917 - of hypothesis
    values: list[Any], place: float, length: int, inserted: str, piece: int, group: int
) -> None:
    text = json.dumps({"tasks": values})
    start = int(place * len(text))
    damaged = (text[:start] + inserted + text[start + length :]).encode()
    try:
        whole = decoded(damaged)
    except msgspec.DecodeError:
        with pytest.raises(Problem):
            cut(damaged, piece=piece, group=group, block=7)
    else:
        assert cut(damaged, piece=piece, group=group, block=7) == whole


TASK = b'{"url":"http://app.test/","json":["]}",{"a":[1,2]}]}'
TASKS = b",".join([TASK] * 50)


@pytest.mark.parametrize(
    ("document", "status", "said"),
    [
        (b'{"tasks":[' + TASKS, 400, "ends too early"),
        (b'{"tasks":[' + TASKS + b"]", 400, "ends too early"),
        (b'{"tasks":[' + TASKS + b",]}", 400, "byte 2660"),
        (b'{"tasks":[' + TASKS + TASK + b"]}", 400, "byte 2659"),
        (b'{"tasks":[' + TASKS + b"],}", 400, "not valid JSON"),
        (b'{"tasks":[' + TASKS + b"]}]", 400, "not valid JSON"),
        (b'{"tasks":[' + TASKS + b'],"more":1}', 422, "more"),
        (b'{"tasks":[' + TASKS + b'],"tasks":[]}', 422, "more than once"),
        (b'{"other":[' + TASKS + b"]}", 422, "other"),
        (b"[" + TASKS + b"]", 422, "a JSON object is required"),
        (b'{"tasks":{"a":[' + TASKS + b"]}}", 422, "must be a list"),
        (b'{"tasks":[' + TASKS + b',{"a":"' + b"a" * 2 * MOST + b'"}]}', 413, "tasks[50]: longer"),
        (b'{"tasks":[' + TASKS + b"]}" + b" " * 2 * MOST, 413, "continues"),
        (b"a" * 2 * MOST, 400, "byte 0"),
    ],
)
def test_error_for_an_invalid_batch_names_the_cause(
    document: bytes, status: int, said: str
) -> None:
    with pytest.raises(Problem) as caught:
        cut(document, piece=100, group=500, block=50)

    assert caught.value.status == status
    assert said in caught.value.detail


def test_large_document_is_decoded_in_groups() -> None:
    task = json.dumps({"url": "http://app.test/", "json": ["x" * 1000] * 100}).encode()
    batch = BatchDocument(max_task=len(task))
    batch.add(b'{"tasks":[' + b",".join([task] * 40) + b"]}")

    sizes = []
    while tasks := batch.group():
        sizes.append(sum(len(bytes(one)) for one in tasks))
    sizes.append(sum(len(bytes(one)) for one in batch.rest()))

    assert sum(sizes) == 40 * len(task)
    assert max(sizes) <= GROUP + BLOCK + len(task)
