"""``BatchDocument``: splits a batch in JSON into groups of tasks while it arrives.

Decoding 64 MiB at once would block the event loop for a third of a second. The end of a group is
found block by block, by counting brackets outside strings. Only the block in which a group ends is
scanned token by token.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from poussetaches.api.problems import Problem, invalid, too_large
from poussetaches.api.request_body import decode
from poussetaches.core.json_depth import brackets, depths

GROUP = 512 * 1024  # bytes of tasks decoded at once; more if one of them is larger
BLOCK = 8 * 1024  # bytes

_WHITESPACE = b" \t\n\r"
_HEAD = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"tasks"[ \t\n\r]*:[ \t\n\r]*\[')
# A string, the quote of one that does not end in this block, or a bracket or comma.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
_REST_OF_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class UndecodedBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch whose tasks are not decoded yet."""

    tasks: list[msgspec.Raw]


_DOCUMENT = msgspec.json.Decoder(UndecodedBatch)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class _State(NamedTuple):
    """The state of the scan at the start of a block; between tasks the depth is 0."""

    depth: int = 0
    is_in_string: bool = False
    is_escaped: bool = False


class BatchDocument:
    """A batch that arrives in pieces and is returned in groups of whole tasks."""

    def __init__(self, *, max_task: int, group: int = GROUP, block: int = BLOCK) -> None:
        self._max_task = max_task  # bytes
        self._group = group
        self._block = block
        self._text = bytearray()  # bytes that were not returned yet
        self._has_begun = False  # the head was read
        self._count = 0  # tasks returned
        self._scanned = 0  # bytes of the text
        self._state = _State()  # after the scanned bytes
        self._cut: tuple[int, _State] | None = None  # the last block that may end a group
        self._end: int | None = None  # position of the end of the list
        self._offset = 0  # position of the text in the document

    def add(self, piece: bytes) -> None:
        """Add the next piece."""
        self._text += piece

    def group(self) -> list[msgspec.Raw]:
        """Return the next group of tasks; empty until enough bytes have arrived.

        Raises:
            Problem: 400, it is not JSON; 413, a task is too large; 422, it is not a batch.
        """
        while self._begin():
            self._scan()
            if self._cut is None or self._scanned < self._group:
                break
            start, state = self._cut
            self._cut = None
            comma, _ = _boundaries(bytes(self._text[start : start + self._block]), state)
            if comma is not None:
                return self._take(start + comma)
        if len(self._text) > self._max_task + self._group:
            raise self._refusal()
        return []

    def rest(self) -> list[msgspec.Raw]:
        """Return the last tasks, once the whole document was added.

        Raises:
            Problem: 400, it is not JSON; 422, it is not a batch.
        """
        if not self._has_begun:
            return decode(_DOCUMENT, self._text).tasks
        end = self._end
        if end is None:
            self._decoded(self._text)  # raises, because the list has no end
            raise AssertionError("a list without an end was decoded")
        tail = bytes(self._text[end:])
        if tail.translate(None, _WHITESPACE) != b"]}":
            decode(_DOCUMENT, b'{"tasks":[' + tail)
            raise invalid("invalid-task", "tasks", "appears more than once")
        return self._decoded(self._text[:end] + b"]")

    def _begin(self) -> bool:
        """Read the head once there are enough bytes for a group; return whether it was read."""
        if not self._has_begun and len(self._text) >= self._group:
            head = _HEAD.match(self._text)
            if head is not None:
                self._has_begun = True
                self._drop(head.end())
        return self._has_begun

    def _scan(self) -> None:
        """Scan the bytes that arrived, up to the first possible end of a group."""
        while self._end is None and self._scanned < len(self._text):
            if self._cut is not None and self._scanned >= self._group:
                return
            block = bytes(self._text[self._scanned : self._scanned + self._block])
            before = self._state
            self._state, lowest = _state_after(block, before)
            if lowest <= 0:
                self._cut = self._scanned, before
            if lowest < 0:
                _, end = _boundaries(block, before)
                assert end is not None
                self._end = self._scanned + end
            self._scanned += len(block)

    def _take(self, length: int) -> list[msgspec.Raw]:
        tasks = self._decoded(self._text[:length] + b"]")
        self._drop(length)
        self._scanned -= length
        if self._end is not None:
            self._end -= length
        return tasks

    def _decoded(self, text: bytearray) -> list[msgspec.Raw]:
        # The text of all groups but the first begins with a comma.
        prefix = b"[0" if self._count else b"["
        items = decode(_LIST, prefix + text, offset=self._offset - len(prefix))
        tasks = items[1:] if self._count else items
        self._count += len(tasks)
        return tasks

    def _drop(self, length: int) -> None:
        del self._text[:length]
        self._offset += length

    def _refusal(self) -> Problem:
        if not self._has_begun:
            decode(_DOCUMENT, self._text)  # raises, because the head is invalid
        if self._end is not None:
            return too_large("the batch continues after the end of its JSON")
        detail = f"tasks[{self._count}]: longer than {self._max_task} bytes (setting max_request)"
        return too_large(detail)


def _state_after(block: bytes, state: _State) -> tuple[_State, int]:
    """Return the state after a block and the lowest depth in it, which is exact if at most 0."""
    if state.is_escaped:
        block = block[1:]
    marks, is_in_string = brackets(block, is_in_string=state.is_in_string)
    backslashes = len(block) - len(block.rstrip(b"\\"))
    closing = marks.count(b"]")
    depth = state.depth + len(marks) - 2 * closing
    lowest = state.depth - closing
    if lowest <= 0:
        lowest = min(depths(marks.replace(b"[]", b""), start=state.depth))
    return _State(depth, is_in_string, is_in_string and backslashes % 2 == 1), lowest


def _boundaries(block: bytes, state: _State) -> tuple[int | None, int | None]:
    """Return the positions in a block of the last comma between tasks and of the list's end."""
    depth, comma = state.depth, None
    start = int(state.is_escaped)
    if state.is_in_string:
        rest = _REST_OF_STRING.match(block, start)
        if rest is None:
            return None, None
        start = rest.end()
    for token in _TOKEN.finditer(block, start):
        match token[0]:
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
                if depth < 0:
                    return comma, token.start()
            case b"," if depth == 0:
                comma = token.start()
            case b'"':
                break
    return comma, None
