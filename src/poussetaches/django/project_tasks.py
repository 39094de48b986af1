"""``Tasks``: the tasks of one Django project or application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings

from poussetaches.client.delivery_auth import IncomingRequest, Reply
from poussetaches.client.receiver import Receiver
from poussetaches.client.request_fields import NewTask
from poussetaches.client.tasks import Tasks as ClientTasks
from poussetaches.core.setting_names import PREFIX
from poussetaches.django.commit_batch import push_pending, push_prepared_on_commit
from poussetaches.django.handler_call import acall, call

registry: list[Tasks] = []  # in the order in which modules defined them


class Tasks(ClientTasks):
    """Tasks whose receiver is the project's middleware.

    Settings come from ``settings.POUSSETACHES``, a dictionary (``URL``, ``AUTH_KEY``, ``NAME`` and
    so on), then from the environment.
    """

    def __init__(self, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name=name or configured().get("NAME"), **options)
        registry.append(self)

    def receiver(self) -> Receiver:
        """Return the receiver of deliveries."""
        return Receiver(self, call=call, acall=acall)

    def setting(self, name: str) -> str | None:
        """Return a setting of the project, or of the environment."""
        value = configured().get(name.removeprefix(PREFIX))
        return super().setting(name) if value in (None, "") else str(value)

    def push_on_commit(self, task: NewTask) -> None:
        """Push a task once the current transaction of the default database is committed."""
        push_prepared_on_commit(task, self)

    def delivery_in_test(self) -> Callable[[IncomingRequest], Reply]:
        """Return a function that delivers through Django's test client."""
        from django.test import Client  # noqa: PLC0415  # of tests alone

        client = Client(raise_request_exception=False)

        def deliver(request: IncomingRequest) -> Reply:
            answer = client.generic(
                request.method,
                request.target,
                request.body,
                content_type=request.header("content-type") or "application/json",
                headers=dict(request.headers),
            )
            return Reply(answer.status_code, answer.content, dict(answer.headers))

        return deliver

    def push_pending_in_test(self) -> None:
        """Push what waits for the transaction that Django's TestCase rolls back."""
        push_pending()


def configured() -> Mapping[str, Any]:
    """Return ``settings.POUSSETACHES``."""
    found: Mapping[str, Any] = getattr(settings, "POUSSETACHES", {})
    return found
