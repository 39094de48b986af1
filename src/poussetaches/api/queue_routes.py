"""The routes of queues, ``/v1/queues``, and of the pause of the whole server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.bulk_edit import BulkEditor
from poussetaches.api.definition_body import (
    HINTS,
    READ_ONLY,
    decode_definition,
    name_of,
    patched_overrides,
)
from poussetaches.api.endpoint import Endpoint, json_response, read_query
from poussetaches.api.engine_view import EngineView
from poussetaches.api.problems import after_change
from poussetaches.api.request_body import read_body
from poussetaches.api.task_wait import ENDED
from poussetaches.api.views import WaitView, age, wait_view
from poussetaches.core.edits import Delete
from poussetaches.core.errors import InvalidQueue, QueueInUse, QueueNotFound, TooMany
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment
from poussetaches.core.queue import (
    CALLBACKS_QUEUE,
    DEFAULT_QUEUE,
    MAX_QUEUES,
    Declarer,
    Name,
    Queue,
    QueueOverrides,
    QueueSources,
    ShownQueue,
    redeclared,
    sources_of,
)
from poussetaches.core.queue_fields import QueueFields, check_queue
from poussetaches.core.responses import Purged, QueueCounts, ServerPause
from poussetaches.core.schedule_owner import NAMELESS_OWNER, check_same_declarer
from poussetaches.core.target import is_path
from poussetaches.core.target_allowlist import AllowedTargets
from poussetaches.core.task import TaskState
from poussetaches.store.base import Store

TAG = "Queues"
CODE = "invalid-queue"
MODULES = r"^[A-Za-z0-9_.,-]{0,16384}$(?!\n)"  # all of it fits into the head of a request
MODULES_IN_WORDS = "up to 16,384 characters of names of modules, separated by commas"

QUEUE_HINTS = HINTS | dict.fromkeys(("name", "counts", "oldest_due_age", "waiting_for"), READ_ONLY)

NO_BASE = (
    f"is a path, which requires a base URL: set base_url of the queue {CALLBACKS_QUEUE!r}, or "
    "POUSSETACHES_BASE_URL of the server"
)


class PatchQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a patch is a declaration: all the settings of a queue in the code.

    ``owner`` and ``modules``, separated by commas, are those of the application that declares.
    """

    declared: bool = False
    owner: Name | None = None
    modules: Annotated[str, Meta(pattern=MODULES, description=MODULES_IN_WORDS)] = ""

    @property
    def declarer(self) -> Declarer | None:
        """The application that declares, if the query names one."""
        if self.owner is None:
            return None
        return Declarer(self.owner, tuple(sorted({*filter(None, self.modules.split(","))})))


class QueueView(ShownQueue, frozen=True, kw_only=True):
    """A queue in responses: its settings in force and its state."""

    counts: QueueCounts
    oldest_due_age: float | None  # seconds
    waiting_for: list[WaitView]
    sources: QueueSources


class QueueList(msgspec.Struct, frozen=True):
    """All queues, sorted by name."""

    queues: list[QueueView]


_QUEUE = msgspec.json.Decoder(QueueFields)


@dataclass(frozen=True, kw_only=True)
class QueueRoutes:
    """Serves the queues."""

    store: Store
    engine: EngineView
    bulk: BulkEditor
    now: Callable[[], Moment]
    max_request: int

    def endpoints(self) -> list[Endpoint]:
        endpoint = partial(Endpoint, tag=TAG)
        one = "/v1/queues/{name}"
        named = partial(endpoint, parameters={"name": Name})
        existing = partial(named, responses={200: QueueView}, problems=(404,))
        defined = partial(
            named, path=one, body=QueueFields, responses={201: QueueView, 200: QueueView}
        )
        return [
            endpoint(
                method="GET",
                path="/v1/queues",
                handler=self.show_all,
                summary="List all queues, sorted by name",
                responses={200: QueueList},
            ),
            existing(method="GET", path=one, handler=self.show, summary="Show a queue"),
            defined(
                method="PUT",
                handler=self.put,
                summary="Set all of a queue's settings",
                problems=(409,),
            ),
            defined(
                method="PATCH",
                handler=self.patch,
                query=PatchQuery,
                summary="Change some of a queue's settings (RFC 7396)",
                problems=(409,),
            ),
            existing(
                method="DELETE",
                path=one,
                handler=self.delete,
                summary="Delete an idle queue, with its ended tasks",
                responses={204: None},
                problems=(404, 409),
            ),
            existing(
                method="POST",
                path=one + "/pause",
                handler=partial(self.set_paused, paused=True),
                summary="Pause a queue",
            ),
            existing(
                method="POST",
                path=one + "/resume",
                handler=partial(self.set_paused, paused=False),
                summary="Resume a queue",
            ),
            existing(
                method="POST",
                path=one + "/purge",
                handler=self.purge,
                summary="Delete a queue's waiting tasks",
                responses={200: Purged},
            ),
            endpoint(
                method="POST",
                path="/v1/pause",
                handler=partial(self.set_server_paused, paused=True),
                summary="Pause the server",
                responses={200: ServerPause},
            ),
            endpoint(
                method="POST",
                path="/v1/resume",
                handler=partial(self.set_server_paused, paused=False),
                summary="Resume the server; paused queues stay paused",
                responses={200: ServerPause},
            ),
        ]

    async def show_all(self, request: Request) -> Response:
        counts = await self.store.counts()
        names = sorted(queue.name for queue in self.engine.queues)
        return json_response(QueueList([self._view(name, counts) for name in names]))

    async def show(self, request: Request) -> Response:
        return await self._respond(self._existing_name(request))

    async def put(self, request: Request) -> Response:
        """Replace all settings of a queue; missing ones are inherited from the server."""
        name = name_of(request, code=CODE)
        overrides = self._decoded(await read_body(request, limit=self.max_request))
        return await self._set(
            name, lambda queue: msgspec.structs.replace(queue, overrides=overrides)
        )

    async def patch(self, request: Request) -> Response:
        """Change some settings of a queue; null resets one. An unknown queue is created."""
        name = name_of(request, code=CODE)
        query = read_query(request, PatchQuery)
        patch = await read_body(request, limit=self.max_request)
        given = self._decoded(patch)  # also checks the names of settings that are null
        if query.declared:
            return await self._declare(name, given, query.declarer)

        def change(queue: Queue) -> Queue:
            overrides = patched_overrides(queue.overrides, patch, given, code=CODE)
            return msgspec.structs.replace(queue, overrides=overrides)

        return await self._set(name, change)

    async def _declare(
        self, name: str, settings: QueueOverrides, declarer: Declarer | None
    ) -> Response:
        """Store the settings that an application declares, unless it would replace another's."""
        nameless = await self.store.schedules(NAMELESS_OWNER) if declarer is not None else []

        def change(queue: Queue) -> Queue:
            if declarer is not None:
                check_same_declarer(queue, declarer, nameless)
            return redeclared(queue, settings, declarer)

        return await self._set(name, change)

    async def delete(self, request: Request) -> Response:
        name = self._existing_name(request)
        if name == DEFAULT_QUEUE:
            raise QueueInUse("the queue default cannot be deleted")
        counts = (await self.store.counts()).get(name, QueueCounts())
        if counts.waiting or counts.running:
            raise QueueInUse(
                f"the queue has {counts.waiting} waiting and {counts.running} running tasks; "
                "purge the queue, or wait until they have ended"
            )
        count = (await self.bulk.apply(TaskFilter(queue=name, states=ENDED), Delete())).count
        with after_change(f"{count} ended tasks were deleted", made=count > 0):
            await self.store.edit_queue(name, _deleted)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def set_paused(self, request: Request, *, paused: bool) -> Response:
        name = self._existing_name(request)

        def edit(stored: Queue | None) -> Queue:
            if stored is None:
                raise QueueNotFound(f"there is no queue {name!r}; GET /v1/queues lists all")
            return msgspec.structs.replace(stored, paused=paused)

        await self.store.edit_queue(name, edit)
        with after_change():
            return await self._respond(name)

    async def purge(self, request: Request) -> Response:
        waiting = frozenset({TaskState.WAITING})
        filter = TaskFilter(queue=self._existing_name(request), states=waiting)
        count = (await self.bulk.apply(filter, Delete())).count
        return json_response(Purged(count))

    async def set_server_paused(self, request: Request, *, paused: bool) -> Response:
        await self.store.set_paused(paused)
        return json_response(ServerPause(paused))

    def _existing_name(self, request: Request) -> str:
        name: str = request.path_params["name"]
        if self.engine.queues.get(name) is None:
            raise QueueNotFound(f"there is no queue {name!r}; GET /v1/queues lists all")
        return name

    def _decoded(self, body: bytes) -> QueueOverrides:
        return decode_definition(_QUEUE, body, hints=QUEUE_HINTS, code=CODE).overrides()

    async def _set(self, name: str, change: Callable[[Queue], Queue]) -> Response:
        """Store changed settings of a queue; create the queue if it does not exist."""
        queues = self.engine.queues
        has_base_url = queues.settings_of(CALLBACKS_QUEUE).base_url is not None
        is_full = len(queues) >= MAX_QUEUES
        made = False

        def edit(stored: Queue | None) -> Queue:
            nonlocal made
            made = stored is None
            if made and is_full:
                raise TooMany(f"there are already {MAX_QUEUES} queues, the maximum; delete some")
            new = change(stored or Queue(name=name))
            if new is not stored:
                check_overrides(new.overrides, has_base_url=has_base_url, allowed=queues.allowed)
            return msgspec.structs.replace(new, configured=True)

        await self.store.edit_queue(name, edit)
        with after_change():
            return await self._respond(name, HTTPStatus.CREATED if made else HTTPStatus.OK)

    async def _respond(self, name: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
        return json_response(self._view(name, await self.store.counts()), status)

    def _view(self, name: str, counts: Mapping[str, QueueCounts]) -> QueueView:
        queues = self.engine.queues
        return QueueView(
            **msgspec.structs.asdict(queues.settings_of(name)),
            name=name,
            paused=queues.is_paused(name),
            counts=counts.get(name, QueueCounts()),
            oldest_due_age=age(self.engine.oldest_due_at(name), now=self.now()),
            waiting_for=[wait_view(reason) for reason in self.engine.queue_waiting_for(name)],
            sources=msgspec.convert(
                sources_of(queues.get(name) or Queue(name=name)), QueueSources
            ),
        )


def check_overrides(
    overrides: QueueOverrides, *, has_base_url: bool, allowed: AllowedTargets
) -> None:
    """Check the settings of a queue.

    ``has_base_url`` is whether callbacks that are paths have a base URL.

    Raises:
        InvalidQueue: a setting is not allowed.
        TargetNotAllowed: a URL is not allowed.
    """
    check_queue(overrides)
    for field, url in (("on_success", overrides.on_success), ("on_dead", overrides.on_dead)):
        if url is not None and is_path(url) and not has_base_url:
            raise InvalidQueue(field, NO_BASE)
    for field in ("base_url", "on_success", "on_dead"):
        url = getattr(overrides, field)
        if url and not is_path(url):
            allowed.check(field, url)


def _deleted(stored: Queue | None) -> None:
    """Delete the queue: an edit that returns None does."""
