"""The command ``poussetaches check``, which sends a probe the way of every task."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:7991"


def check(
    url: Annotated[
        str,
        typer.Option(
            "--url", envvar="POUSSETACHES_URL", metavar="URL", help="Where the server is."
        ),
    ] = DEFAULT_URL,
    queue: Annotated[
        str, typer.Option("--queue", metavar="NAME", help="Queue that the probe is pushed to.")
    ] = "default",
    path: Annotated[
        str, typer.Option("--path", metavar="PATH", help="Path of the application's receiver.")
    ] = "/_poussetaches",
) -> int:
    """Send a probe through a server to its application, and say what refuses it.

    Uses POUSSETACHES_API_TOKEN, as applications do. The exit status is 0 if the application's
    task receiver answered and the server accepted all queues and schedules that the code declares;
    otherwise it is 1, and one line says what is wrong and what to do.
    """
    # Here, because the other commands need none of it.
    from poussetaches.cli.probe import probe  # noqa: PLC0415
    from poussetaches.client.config import read_secret  # noqa: PLC0415

    target, duration = probe(
        url,
        token=read_secret(os.environ, "POUSSETACHES_API_TOKEN"),
        queue=queue,
        path=path,
    )
    sys.stdout.write(f"{target} answers, in {duration:.3f} s: tasks are delivered\n")
    return 0
