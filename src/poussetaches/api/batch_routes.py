"""Batch pushes: many tasks in one request and one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus
from typing import Annotated, NoReturn

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from poussetaches.api.batch_document import BatchDocument
from poussetaches.api.endpoint import JSON, Endpoint, json_response
from poussetaches.api.json_errors import json_problem
from poussetaches.api.problems import FieldError, Problem, too_large, unavailable
from poussetaches.api.request_body import check_encoding, cut_off, discard_rest
from poussetaches.api.task_pusher import TaskPusher, build_push
from poussetaches.core.errors import (
    BodyTooLarge,
    InvalidTask,
    KeyConflict,
    PousseTachesError,
    TargetNotAllowed,
)
from poussetaches.core.msgspec_errors import field_and_reason
from poussetaches.core.new_task import TaskBuilder
from poussetaches.core.responses import BatchAnswer
from poussetaches.core.task_fields import TaskFields
from poussetaches.store.base import Push

MAX_TASKS = 10_000
MAX_ERRORS = 20  # refused tasks in an error response
MAX_CONCURRENT = 2  # batches being read, each up to the maximum size
MAX_PENDING = 32  # batches waiting to be read, each with some 300 KB in memory
READ_TIMEOUT = 120.0  # seconds; a client that stalls must not block the others
# Work between two turns of the event loop, about 2 ms. A task counts as its length plus
# TASK_OVERHEAD.
SLICE = 64 * 1024  # bytes
TASK_OVERHEAD = 256  # bytes
MAX_LINES = 10 * MAX_TASKS  # including empty ones
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")


class BatchFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Many pushes; all are stored, or none."""

    tasks: Annotated[list[TaskFields], Meta(max_length=MAX_TASKS)]


class BatchRoutes:
    """Serves batch pushes."""

    def __init__(self, pusher: TaskPusher, *, max_request: int, max_batch: int) -> None:
        self._pusher = pusher
        self._max_request = max_request
        self._max_batch = max_batch
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._count = 0  # batches being read or waiting

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="POST",
                path="/v1/tasks/batch",
                handler=self.push,
                summary="Push many tasks, all or none, as JSON or as one JSON object per line",
                tag="Tasks",
                is_push=True,
                body=BatchFields,
                body_media_types=(JSON, *NDJSON),
                responses={201: BatchAnswer},
                problems=(409,),
            )
        ]

    async def push(self, request: Request) -> Response:
        if self._count >= MAX_CONCURRENT + MAX_PENDING:
            raise unavailable("busy", f"{self._count} batches are already pending; retry later")
        self._count += 1
        try:
            async with self._slots:
                return await self._push(request)
        finally:
            self._count -= 1

    async def _push(self, request: Request) -> Response:
        builder = self._pusher.builder(request.scope["headers"])
        pushes = _Pushes(builder, is_ndjson=_is_ndjson(request), max_task=self._max_request)
        await _read(request, pushes, limit=self._max_batch)
        return await self._store(pushes)

    async def _store(self, pushes: _Pushes) -> Response:
        accepted = pushes.accepted()
        try:
            pushed = await self._pusher.push(accepted) if accepted else []
        except KeyConflict as exc:
            error = FieldError(pushes.field(pushes.position_of(exc.place), "key"), str(exc))
            detail = f"{error.field}: {error.reason}"
            raise Problem(HTTPStatus.CONFLICT, "key-conflict", detail, errors=(error,)) from None
        ids = [one.task_id for one in pushed]
        existing = [index for index, one in enumerate(pushed) if one.existing]
        return json_response(BatchAnswer(ids, existing), HTTPStatus.CREATED)


class _Pushes:
    """The pushes of one batch, and the errors of the refused ones."""

    def __init__(self, builder: TaskBuilder, *, is_ndjson: bool, max_task: int) -> None:
        self.is_ndjson = is_ndjson
        self.max_task = max_task  # bytes
        self._builder = builder
        self._decoder = msgspec.json.Decoder(TaskFields)
        self._pushes: list[Push] = []
        self._positions: list[int] = []  # of the pushes: indexes, or line numbers
        self._errors: list[FieldError] = []
        self._count = 0  # tasks of the document, including refused ones
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
        if number > MAX_LINES:
            raise too_large(f"the batch has more than {MAX_LINES} lines")
        if line.strip():
            await self.add(number, line)

    async def add(self, position: int, json: bytes) -> None:
        """Add one push; yield to the event loop from time to time.

        Raises:
            Problem: 400, it is not JSON; 413, it is too long; 422, there are too many, or too
                many were refused.
            BodyTooLarge: its body is too long.
            TargetNotAllowed: its target is not allowed.
        """
        self.check_length(position, json)
        self._add(position, json)
        self._work += len(json) + TASK_OVERHEAD
        if self._work >= SLICE:
            self._work = 0
            await asyncio.sleep(0)

    def check_length(self, position: int, json: bytes | bytearray) -> None:
        """Check the length of a push, which may be incomplete.

        Raises:
            Problem: 413, it is too long.
        """
        if len(json) > self.max_task:
            name = self.field(position, "")
            raise too_large(f"{name}: longer than {self.max_task} bytes (setting max_request)")

    def _add(self, position: int, json: bytes) -> None:
        if len(self._pushes) >= MAX_TASKS:
            reason = f"has more than {MAX_TASKS} tasks; push several batches"
            self._errors = [FieldError("tasks", reason)]
            self._refuse()
        try:
            if self.is_ndjson:
                check_encoding(json)
            push = build_push(self._builder, self._decoder.decode(json))
        except msgspec.ValidationError as exc:
            self._add_error(position, *field_and_reason(str(exc), TaskFields, json))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise json_problem(json, exc, field=self.field(position, "")) from None
        except (BodyTooLarge, TargetNotAllowed) as exc:
            raise type(exc)(self.field(position, exc.field), exc.reason) from None
        except InvalidTask as exc:
            self._add_error(position, exc.field, exc.reason)
        else:
            self._pushes.append(push)
            self._positions.append(position)

    def accepted(self) -> list[Push]:
        """Return the pushes.

        Raises:
            Problem: 422, some pushes were refused.
        """
        if self._errors:
            self._refuse()
        return self._pushes

    def position_of(self, index: int) -> int:
        """Return the index in the request, or the line number, of an accepted push."""
        return self._positions[index]

    def field(self, position: int, field: str) -> str:
        """Return the name of a field within the request; "" is the push as a whole."""
        if self.is_ndjson:
            return f"line {position}: {field}" if field else f"line {position}"
        return f"tasks[{position}].{field}" if field else f"tasks[{position}]"

    def _add_error(self, position: int, field: str, reason: str) -> None:
        self._errors.append(FieldError(self.field(position, field), reason))
        if len(self._errors) == MAX_ERRORS:
            self._refuse()

    def _refuse(self) -> NoReturn:
        first = self._errors[0]
        others = len(self._errors) - 1
        detail = f"{first.field}: {first.reason}" + (f"; and {others} more" if others else "")
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-task", detail, errors=tuple(self._errors)
        )


def _is_ndjson(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() in NDJSON


async def _read(request: Request, pushes: _Pushes, *, limit: int) -> None:
    """Read a batch to its end, even if it is refused, so that the client can read the response.

    Raises:
        Problem: 400, 413 or 422.
        TooMany: it would create a queue beyond the maximum.
    """
    body = _Body(request, limit=limit)
    read = _read_lines if pushes.is_ndjson else _read_document
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            await read(body, pushes)
    except (Problem, PousseTachesError):
        await body.discard_rest()
        raise
    except ClientDisconnect:
        raise cut_off() from None
    except TimeoutError:
        detail = f"the batch did not arrive within {READ_TIMEOUT:.0f} s; push smaller batches"
        raise Problem(HTTPStatus.BAD_REQUEST, "too-slow", detail) from None


class _Body:
    """The body of a request as a stream, up to the limit of batches."""

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

    async def discard_rest(self) -> None:
        await discard_rest(self._stream, self._length)


async def _read_document(body: _Body, pushes: _Pushes) -> None:
    document = BatchDocument(max_task=pushes.max_task)
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
