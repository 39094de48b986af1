"""``manage.py poussetaches_sync``: declare the code's queues and schedules to the server."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from poussetaches.client.sync_command import sync
from poussetaches.core.errors import PousseTachesError
from poussetaches.django.project_tasks import registry


class Command(BaseCommand):
    """Declares the queues and schedules of all ``Tasks`` of the project."""

    help = "Declare the code's queues and schedules to the server."

    def handle(self, *args: Any, **options: Any) -> None:
        """Declare."""
        for tasks in registry:
            try:
                self.stdout.write(sync(tasks))
            except PousseTachesError as exc:
                raise CommandError(str(exc)) from exc
