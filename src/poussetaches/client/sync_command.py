"""The ``sync`` commands of the frameworks: declare what the code says, and report it."""

from __future__ import annotations

from poussetaches.client.tasks import Tasks


def sync(tasks: Tasks) -> str:
    """Declare queues and schedules to the server; return a line that says which server.

    Raises:
        ClientError: the server refused some of it, or did not answer.
        DefinitionError: the code is wrong.
    """
    client, declaration = tasks.client(), tasks.declaration()
    server = f" to the server at {client.url}" if client.url else ""
    owner = f" of {tasks.name}" if tasks.name else ""
    tasks.declare(client)
    return (
        f"declared {len(declaration.queues)} queues and {len(declaration.schedules)} schedules"
        f"{owner}{server}"
    )
