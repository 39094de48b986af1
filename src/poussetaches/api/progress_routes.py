"""The route of progress reports, which handlers send with the token of their attempt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import Endpoint, TaskId
from poussetaches.api.engine_view import EngineView
from poussetaches.api.event_hub import EventHub
from poussetaches.api.problems import Problem
from poussetaches.api.request_body import decode, read_body
from poussetaches.api.task_routes import not_found
from poussetaches.core.moment import Moment
from poussetaches.core.progress_report import ATTEMPT_TOKEN, LARGEST_AMOUNT, LONGEST_NOTE, Progress
from poussetaches.store.base import Store

_LIMITS = Meta(ge=0, le=LARGEST_AMOUNT)

Amount = Annotated[int, _LIMITS] | Annotated[float, _LIMITS]


class ProgressFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A progress report: ``done`` of ``total``, in any unit, and a note for people."""

    done: Amount
    total: Amount | None = None
    note: Annotated[str, Meta(max_length=LONGEST_NOTE)] | None = None


_REPORT = msgspec.json.Decoder(ProgressFields)


@dataclass(frozen=True, kw_only=True)
class ProgressRoutes:
    """Passes progress reports to the engine and to the readers of events."""

    store: Store
    engine: EngineView
    events: EventHub
    now: Callable[[], Moment]
    max_request: int

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="POST",
                path="/v1/tasks/{id}/progress",
                handler=self.report,
                parameters={"id": TaskId},
                summary="Report the progress of a running attempt, with its token",
                tag="Tasks",
                body=ProgressFields,
                responses={204: None},
                problems=(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
                has_own_token=True,
            )
        ]

    async def report(self, request: Request) -> Response:
        token = request.headers.get(ATTEMPT_TOKEN)
        if token is None:
            detail = f"{ATTEMPT_TOKEN} is missing; copy it from the request of the delivery"
            raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail)
        fields = decode(_REPORT, await read_body(request, limit=self.max_request))
        progress = Progress(done=fields.done, total=fields.total, note=fields.note, at=self.now())
        task_id: str = request.path_params["id"]
        task = self.engine.report_progress(task_id, token, progress)
        if await self.store.get(task_id) is None:  # a deleted task may still be running
            raise not_found(task_id)
        self.events.progressed(task, progress)
        return Response(status_code=HTTPStatus.NO_CONTENT)
