"""``manage.py poussetaches_dev``: runserver with the sidecar beside it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    """Becomes ``poussetaches run -- manage.py runserver``."""

    help = "Run the development server with poussetaches beside it; takes what runserver takes."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take everything as it is."""
        parser.add_argument("runserver", nargs=argparse.REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        """Start both, in the place of this process."""
        self.stdout.flush()
        os.execv(sys.executable, command_line(options["runserver"]))  # noqa: S606  # no shell


def command_line(arguments: list[str]) -> list[str]:
    """Return what runs both."""
    server = [sys.executable, sys.argv[0], "runserver", *arguments]
    return [sys.executable, "-m", "poussetaches", "run", "--", *server]
