"""A progress bar on stderr, shown only in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poussetaches.store.progress_callback import ProgressCallback


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Show the progress of an operation, and remove the bar at the end."""
    # Here, because rich takes longer to import than most commands take to run.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        shown = bar.add_task("", total=None)

        def show(what: str, done: int, total: int | None) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        yield show
