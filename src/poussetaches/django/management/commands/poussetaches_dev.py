"""``manage.py poussetaches_dev``: runserver with the sidecar beside it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    """Becomes ``poussetaches run -- manage.py runserver``."""

    help = (
        "Run the development server together with poussetaches; takes the arguments of runserver."
    )

    def run_from_argv(self, argv: list[str]) -> None:
        """Accept options that only runserver knows, and that argparse would refuse."""
        if {"-h", "--help"} & {*argv}:
            super().run_from_argv(argv)
        self.handle(runserver=argv[2:])

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments of runserver, so that the help shows them."""
        parser.add_argument("runserver", nargs=argparse.REMAINDER, help="arguments of runserver")

    def handle(self, *args: Any, **options: Any) -> None:
        """Replace this process with both."""
        self.stdout.flush()
        os.execv(sys.executable, command_line(options["runserver"]))  # noqa: S606  # no shell


def command_line(arguments: list[str]) -> list[str]:
    """Return the command line that runs both."""
    module = sys.modules["__main__"].__spec__  # none for a script
    manage = ["-m", module.parent] if module is not None and module.parent else sys.argv[:1]
    server = [sys.executable, *manage, "runserver", *arguments]
    return [sys.executable, "-m", "poussetaches", "run", "--", *server]
