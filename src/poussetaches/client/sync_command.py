"""The ``sync`` commands of the frameworks, which declare queues and schedules."""

from __future__ import annotations

from collections.abc import Sized

from poussetaches.client.tasks import Tasks


def sync(tasks: Tasks) -> str:
    """Declare queues and schedules to the server; return a line about the result.

    Raises:
        ClientError: the server refused some of them, or did not respond.
        DefinitionError: a definition in the code is invalid.
    """
    client, declaration = tasks.client(), tasks.declaration()
    server = f" to the server at {client.url}" if client.url else ""
    owner = f" of {tasks.name}" if tasks.name else ""
    tasks.declare(client)
    return (
        f"declared {_count(declaration.queues, 'queue')} and"
        f" {_count(declaration.schedules, 'schedule')}{owner}{server}"
    )


def _count(items: Sized, noun: str) -> str:
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")
