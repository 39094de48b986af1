"""The ``sync`` commands of the frameworks, which declare queues and schedules."""

from __future__ import annotations

from poussetaches.client.tasks import Tasks
from poussetaches.core.plural import counted


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
        f"declared {counted(len(declaration.queues), 'queue')} and "
        f"{counted(len(declaration.schedules), 'schedule')}{owner}{server}"
    )
