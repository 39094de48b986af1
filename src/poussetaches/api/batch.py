"""Batches: many pushes in one request and one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus
from typing import Annotated, NoReturn

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from poussetaches.api.bad_json import bad_json
from poussetaches.api.batch_document import BatchDocument
from poussetaches.api.endpoint import JSON, Endpoint, answer
from poussetaches.api.problems import FieldError, Problem, unavailable
from poussetaches.api.pushing import Pushing, build_push
from poussetaches.api.reading import check_encoding, cut_off, throw_away, too_large
from poussetaches.core.errors import InvalidTask, KeyConflict, PousseTachesError, TargetNotAllowed
from poussetaches.core.new_task import TaskBuilder
from poussetaches.core.refusal import field_and_reason
from poussetaches.core.task_fields import TaskFields
from poussetaches.store.base import Push

MAX_TASKS = 10_000
MAX_ERRORS = 20  # refused tasks that are named
BATCHES = 2  # read at once: each may take the memory of the largest
MOST_QUEUED = 32  # waiting batches, each with some 300 KB of its body in memory
LONGEST_READING = 120.0  # seconds, so that a client that stalls does not keep out others for good
# Work between two turns of the event loop, about 2 ms. A task counts as its bytes plus EACH.
SLICE = 64 * 1024  # bytes
EACH = 256  # bytes
MOST_LINES = 10 * MAX_TASKS  # empty ones included
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")


class BatchFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Many pushes; either all are stored or none is."""

    tasks: Annotated[list[TaskFields], Meta(max_length=MAX_TASKS)]


class BatchAnswer(msgspec.Struct, frozen=True):
    """The tasks' ids in the order of the pushes, and the places of those there were already."""

    ids: list[str]
    existing: list[int]


class BatchRoutes:
    """Serves batch pushes."""

    def __init__(self, pushing: Pushing, *, max_request: int, max_batch: int) -> None:
        self._pushing = pushing
        self._max_request = max_request
        self._max_batch = max_batch
        self._turns = asyncio.Semaphore(BATCHES)
        self._count = 0  # batches being read, or waiting to be

    def endpoints(self) -> list[Endpoint]:
        """Return the row of the API."""
        return [
            Endpoint(
                method="POST",
                path="/v1/tasks/batch",
                handler=self.push,
                summary="Push many tasks, all or none; in JSON, or one JSON object a line",
                tag="Tasks",
                is_push=True,
                body=BatchFields,
                body_media_types=(JSON, *LINES),
                answers={201: BatchAnswer},
                problems=(409,),
            )
        ]

    async def push(self, request: Request) -> Response:
        """Store many tasks, all or none."""
        if self._count >= BATCHES + MOST_QUEUED:
            detail = f"{self._count} batches are being pushed; retry later"
            raise unavailable("busy", detail)
        self._count += 1
        try:
            async with self._turns:
                return await self._push(request)
        finally:
            self._count -= 1

    async def _push(self, request: Request) -> Response:
        builder = self._pushing.builder(request)
        pushes = _Pushes(builder, are_lines=_are_lines(request), most=self._max_request)
        await _read(request, pushes, limit=self._max_batch)
        return await self._store(pushes)

    async def _store(self, pushes: _Pushes) -> Response:
        made = pushes.made()
        try:
            pushed = await self._pushing.store(made) if made else []
        except KeyConflict as exc:
            place = pushes.place_of(exc.place)
            error = FieldError(pushes.field(place, "key"), str(exc))
            detail = f"{error.field}: {error.reason}"
            raise Problem(HTTPStatus.CONFLICT, "key-conflict", detail, errors=(error,)) from None
        ids = [one.task_id for one in pushed]
        existing = [place for place, one in enumerate(pushed) if one.existing]
        return answer(BatchAnswer(ids, existing), HTTPStatus.CREATED)


class _Pushes:
    """The pushes of one batch, and what is wrong with some of them."""

    def __init__(self, builder: TaskBuilder, *, are_lines: bool, most: int) -> None:
        """Take the builder of the tasks, and the most bytes that one push may have."""
        self.are_lines = are_lines
        self.most = most
        self._builder = builder
        self._decoder = msgspec.json.Decoder(TaskFields)
        self._pushes: list[Push] = []
        self._places: list[int] = []  # of the pushes: indexes, or numbers of lines
        self._errors: list[FieldError] = []
        self._count = 0  # tasks taken from a document, refused ones included
        self._work = 0  # bytes since the event loop last had a turn

    async def add_all(self, tasks: Iterable[msgspec.Raw]) -> None:
        """Add the next pushes of a document.

        Raises:
            Problem: as in ``add``.
        """
        for json in tasks:
            await self.add(self._count, bytes(json))
            self._count += 1

    async def add_line(self, number: int, line: bytes) -> None:
        """Add the push of a line; empty lines are skipped.

        Raises:
            Problem: as in ``add``; 413, there are too many lines.
        """
        if number > MOST_LINES:
            raise too_large(f"the batch has more than {MOST_LINES} lines")
        if line.strip():
            await self.add(number, line)

    async def add(self, place: int, json: bytes) -> None:
        """Add one push; yield to the event loop from time to time.

        Raises:
            Problem: 400, it is not JSON; 413, it is too long; 422, there are too many, or too
                many are refused.
            TargetNotAllowed: its target is not allowed.
        """
        self.check_length(place, json)
        self._add(place, json)
        self._work += len(json) + EACH
        if self._work >= SLICE:
            self._work = 0
            await asyncio.sleep(0)

    def check_length(self, place: int, json: bytes | bytearray) -> None:
        """Refuse a push that is too long, even if it is incomplete.

        Raises:
            Problem: 413, it is.
        """
        if len(json) > self.most:
            where = self.field(place, "")
            raise too_large(f"{where}: longer than {self.most} bytes (setting max_request)")

    def _add(self, place: int, json: bytes) -> None:
        if len(self._pushes) >= MAX_TASKS:
            self._errors = [
                FieldError("tasks", f"are more than {MAX_TASKS}; push several batches")
            ]
            self._refuse()
        try:
            if self.are_lines:
                check_encoding(json)
            push = build_push(self._builder, self._decoder.decode(json))
        except msgspec.ValidationError as exc:
            self._note(place, *field_and_reason(str(exc), TaskFields))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise bad_json(json, exc, field=self.field(place, "")) from None
        except TargetNotAllowed as exc:
            raise TargetNotAllowed(self.field(place, exc.field), exc.reason) from None
        except InvalidTask as exc:
            self._note(place, exc.field, exc.reason)
        else:
            self._pushes.append(push)
            self._places.append(place)

    def made(self) -> list[Push]:
        """Return the pushes.

        Raises:
            Problem: 422, some were refused.
        """
        if self._errors:
            self._refuse()
        return self._pushes

    def place_of(self, index: int) -> int:
        """Return the place in the request of one of the pushes."""
        return self._places[index]

    def field(self, place: int, field: str) -> str:
        """Return the name of a field, or of a push as a whole, within the request."""
        if self.are_lines:
            return f"line {place}: {field}" if field else f"line {place}"
        return f"tasks[{place}].{field}" if field else f"tasks[{place}]"

    def _note(self, place: int, field: str, reason: str) -> None:
        self._errors.append(FieldError(self.field(place, field), reason))
        if len(self._errors) == MAX_ERRORS:
            self._refuse()

    def _refuse(self) -> NoReturn:
        first = self._errors[0]
        others = len(self._errors) - 1
        detail = f"{first.field}: {first.reason}" + (f"; and {others} more" if others else "")
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-task", detail, errors=tuple(self._errors)
        )


def _are_lines(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() in LINES


async def _read(request: Request, pushes: _Pushes, *, limit: int) -> None:
    """Read a batch to its end, whatever is wrong with it: the client must get to read why.

    Raises:
        Problem: 400, 413 or 422.
        TooMany: it would make one queue too many.
    """
    body = _Body(request, limit=limit)
    reading = _read_lines if pushes.are_lines else _read_document
    try:
        async with asyncio.timeout(LONGEST_READING):
            await reading(body, pushes)
    except (Problem, PousseTachesError):
        await body.throw_away()
        raise
    except ClientDisconnect:
        raise cut_off() from None
    except TimeoutError:
        detail = f"the batch was not here after {LONGEST_READING:.0f} s; push smaller ones"
        raise Problem(HTTPStatus.BAD_REQUEST, "too-slow", detail) from None


class _Body:
    """The body of a request, as it comes, up to the limit of a batch."""

    def __init__(self, request: Request, *, limit: int) -> None:
        self._stream = request.stream()
        self._limit = limit  # bytes
        self._length = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._length += len(chunk)
            if self._length > self._limit:
                detail = f"the batch is longer than {self._limit} bytes (setting max_batch)"
                raise too_large(detail)
            yield chunk

    async def throw_away(self) -> None:
        """Read what is left, within bounds."""
        await throw_away(self._stream, self._length)


async def _read_document(body: _Body, pushes: _Pushes) -> None:
    document = BatchDocument(most=pushes.most)
    async for piece in body:
        document.add(piece)
        while tasks := document.group():
            await pushes.add_all(tasks)
    await pushes.add_all(document.rest())


async def _read_lines(body: _Body, pushes: _Pushes) -> None:
    rest, number = bytearray(), 0
    async for chunk in body:
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            number += 1
            await pushes.add_line(number, bytes(rest) + line)
            rest.clear()
        rest += tail
        pushes.check_length(number + 1, rest)
    await pushes.add_line(number + 1, bytes(rest))
