"""Bodies that are parsed while they arrive: batches in lines, and the original's pushes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.integration.asgi import Answered, request_in_pieces
from tests.integration.service import Service

LINES = "application/x-ndjson"
TAKEN_OR_REFUSED = {200, 201, 400, 413, 422}

values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
tasks = st.dictionaries(
    st.sampled_from(["url", "queue", "json", "delay", "priority", "key", "unique", "nonsense"]),
    values | st.sampled_from(["http://app.test/", "mail", "/path", "http://[", "\ud800"]),
)
lines = st.one_of(
    tasks.map(json.dumps).map(str.encode),
    st.binary(max_size=20),
    st.sampled_from([b"", b" ", b"\xef\xbb\xbf{}", b'{"url": "http://app.test/"}', b"[" * 5000]),
)
originals = st.dictionaries(
    st.sampled_from(["url", "payload", "expected", "schedule", "delay", "nonsense"]),
    values
    | st.sampled_from(["http://app.test/", "@every 1m", "* * * * *", "cGF5", "@every 1e9h"]),
)


class Fuzzed:
    """A service without a disk, and its event loop."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._service = self._runner.run(
            Service.opened(None, clock=FakeClock(), sender=ScriptedSender(), random=seeded())
        )

    def post(self, path: str, pieces: list[bytes], content_type: str) -> Answered:
        """Make a request."""
        asked = request_in_pieces(
            self._service.app, "POST", path, pieces, content_type=content_type
        )
        return self._runner.run(asked)

    def close(self) -> None:
        """End it."""
        self._runner.run(self._service.close())
        self._runner.close()


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    fuzzed = Fuzzed()
    yield fuzzed
    fuzzed.close()


def cut(content: bytes, places: set[int]) -> list[bytes]:
    """Return bytes, split into pieces."""
    ends = [0, *sorted(place for place in places if place < len(content)), len(content)]
    return [content[start:end] for start, end in pairwise(ends)]


@given(st.lists(lines, max_size=6), st.sets(st.integers(0, 300), max_size=5))
@example([b'{"url": "http://app.test/"}'] * 2, {3, 27, 28})
def test_batch_in_lines_is_accepted_or_refused_wherever_it_is_split(
    fuzzed: Fuzzed, lines: list[bytes], places: set[int]
) -> None:
    content = b"\n".join(lines)

    whole = fuzzed.post("/v1/tasks/batch", [content], LINES)
    in_pieces = fuzzed.post("/v1/tasks/batch", cut(content, places), LINES)

    assert whole.status in TAKEN_OR_REFUSED | {409}
    # At the second push, the key belongs to an existing task.
    assert (in_pieces.status, in_pieces.json.get("detail")) == (
        whole.status,
        whole.json.get("detail"),
    )


@given(originals.map(json.dumps).map(str.encode) | st.binary(max_size=30))
@example(
    json.dumps({"url": "http://app.test/", "payload": base64.b64encode(b"x").decode()}).encode()
)
def test_push_in_the_originals_form_is_accepted_or_refused(fuzzed: Fuzzed, content: bytes) -> None:
    answer = fuzzed.post("/", [content], "application/json")

    assert answer.status in TAKEN_OR_REFUSED
