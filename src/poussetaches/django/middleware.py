"""``Middleware``: receives deliveries before anything else of the project sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core import mail
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from poussetaches.client.receive import IncomingRequest, Receiver, Reply, too_large
from poussetaches.django.tasks import Tasks, registry

GetResponse = (
    Callable[[HttpRequest], HttpResponseBase]
    | Callable[[HttpRequest], Awaitable[HttpResponseBase]]
)


class Middleware:
    """Answers deliveries, and hands everything else on.

    It must stand first: what stands before it could refuse deliveries.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer a request."""
        if self._is_async:
            return self._aanswer(request)
        receiver = _begin(request)
        if receiver is None:
            return self._get_response(request)
        incoming = _incoming(request, receiver)
        return _response(incoming if isinstance(incoming, Reply) else receiver.run(incoming))

    async def _aanswer(self, request: HttpRequest) -> HttpResponseBase:
        receiver = _begin(request)
        if receiver is None:
            return await cast("Awaitable[HttpResponseBase]", self._get_response(request))
        incoming = _incoming(request, receiver)
        if isinstance(incoming, Reply):
            return _response(incoming)
        return _response(await receiver.arun(incoming))


def _begin(request: HttpRequest) -> Receiver | None:
    """Return who answers a delivery; None for a request that is none."""
    if not hasattr(mail, "outbox"):  # as in Django's own tests, which have no server to tell
        for tasks in registry:
            tasks.declare_in_background()
    tasks_here = [tasks for tasks in registry if tasks.receiver().takes(request.path_info)]
    if not tasks_here:
        return None
    return _owner(tasks_here, request.path_info).receiver()


def _owner(candidates: list[Tasks], path: str) -> Tasks:
    """Return those of several tasks at one path that have the one that is delivered."""
    known = (tasks for tasks in candidates if tasks.find(path.removeprefix(tasks.path + "/")))
    return next(known, candidates[0])


def _incoming(request: HttpRequest, receiver: Receiver) -> IncomingRequest | Reply:
    """Return a request whole, or the answer to one that is too long."""
    most = receiver.most_to_read(request.headers)
    body = request.read(most + 1)
    if len(body) > most:
        return too_large(most)
    return IncomingRequest(request.method or "", request.path_info, request.headers, body)


def _response(reply: Reply) -> HttpResponse:
    return HttpResponse(reply.body, status=int(reply.status), headers=dict(reply.headers))
