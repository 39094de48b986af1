"""The routes of bulk edits: run, requeue, cancel and delete the tasks that a filter selects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.bulk_edit import BulkEditor
from poussetaches.api.endpoint import Endpoint, json_response
from poussetaches.api.engine_view import EngineView
from poussetaches.api.filter_fields import FILTER_CODE, FilterFields
from poussetaches.api.problems import Problem, invalid
from poussetaches.api.request_body import decode, read_body
from poussetaches.api.task_patch import changes_of
from poussetaches.core.changes import Changes
from poussetaches.core.edits import Cancel, Delete, Edit, Requeue, Run
from poussetaches.core.errors import InvalidFilter, InvalidTask, TargetNotAllowed
from poussetaches.core.filter import TaskFilter
from poussetaches.core.merge_patch import Document
from poussetaches.core.moment import Moment
from poussetaches.core.responses import Skipped
from poussetaches.core.retry import TEN_YEARS

CODE = "invalid-bulk"
FILTER = "filter"  # the field

F = TypeVar("F", bound="BulkFields")


class BulkFields(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The tasks of a bulk edit. ``all`` confirms that the filter is empty on purpose."""

    filter: FilterFields | None = None
    all: bool | None = None
    dry_run: bool | None = None


class ResendFields(BulkFields, kw_only=True, frozen=True):
    """The tasks to send, with changes, and the seconds over which they are spread."""

    set: Document | None = None
    spread: Annotated[float, Meta(ge=0, le=TEN_YEARS)] | None = None


class BulkAnswer(msgspec.Struct, frozen=True):
    """The number of changed tasks, and the skipped ones by reason."""

    count: int
    skipped: list[Skipped]


_BULK = msgspec.json.Decoder(BulkFields)
_RESEND = msgspec.json.Decoder(ResendFields)


@dataclass(frozen=True)
class BulkRoutes:
    """Serves the bulk edits."""

    bulk: BulkEditor
    engine: EngineView
    now: Callable[[], Moment]
    max_body: int
    max_request: int

    def endpoints(self) -> list[Endpoint]:
        endpoint = partial(Endpoint, method="POST", tag="Tasks", responses={200: BulkAnswer})
        return [
            endpoint(
                path="/v1/tasks/run",
                handler=partial(self.resend, kind=Run),
                summary="Run waiting tasks now",
                body=ResendFields,
                problems=(503,),
            ),
            endpoint(
                path="/v1/tasks/requeue",
                handler=partial(self.resend, kind=Requeue),
                summary="Requeue ended tasks",
                body=ResendFields,
                problems=(503,),
            ),
            endpoint(
                path="/v1/tasks/cancel",
                handler=self.cancel,
                summary="Cancel waiting tasks, and prevent retries of running ones",
                body=BulkFields,
                problems=(503,),
            ),
            endpoint(
                path="/v1/tasks/delete",
                handler=self.delete,
                summary="Delete tasks in any state",
                body=BulkFields,
                problems=(503,),
            ),
        ]

    async def resend(self, request: Request, *, kind: type[Run | Requeue]) -> Response:
        fields, now = await self._read(request, _RESEND), self.now()
        changes = self._changes_of(fields, now)
        return await self._edit(fields, kind(at=now, changes=changes, spread=fields.spread or 0.0))

    async def cancel(self, request: Request) -> Response:
        return await self._edit(await self._read(request, _BULK), Cancel(self.now()))

    async def delete(self, request: Request) -> Response:
        return await self._edit(await self._read(request, _BULK), Delete())

    def _changes_of(self, fields: ResendFields, now: Moment) -> Changes:
        patch = fields.set or {}
        if fields.spread is not None and "run_at" in patch:
            raise invalid(CODE, "spread", "conflicts with run_at in set; remove one of them")
        try:
            return changes_of(patch, self.engine.queues, now=now, max_body=self.max_body)
        except (InvalidTask, TargetNotAllowed) as exc:
            raise type(exc)(f"set.{exc.field}", exc.reason) from None

    async def _read(self, request: Request, decoder: msgspec.json.Decoder[F]) -> F:
        body = await read_body(request, limit=self.max_request)
        try:
            return decode(decoder, body, code=CODE)
        except Problem as exc:
            for error in exc.errors:
                if error.field.partition(".")[0] == FILTER:
                    raise invalid(FILTER_CODE, error.field, error.reason) from None
            raise

    async def _edit(self, fields: BulkFields, edit: Edit) -> Response:
        result = await self.bulk.apply(_filter_of(fields), edit, dry_run=bool(fields.dry_run))
        skipped = [Skipped(reason, count) for reason, count in result.skipped.items()]
        skipped.sort(key=lambda each: (-each.count, each.reason))
        return json_response(BulkAnswer(result.count, skipped))


def _filter_of(fields: BulkFields) -> TaskFilter:
    try:
        filter = (fields.filter or FilterFields()).filter()
    except InvalidFilter as exc:
        raise InvalidFilter(f"{FILTER}.{exc.field}", exc.reason) from None
    if filter.is_empty and not fields.all:
        reason = 'is empty and selects all tasks; add "all": true to confirm this'
        raise InvalidFilter(FILTER, reason)
    return filter
