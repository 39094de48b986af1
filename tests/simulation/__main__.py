"""``python -m tests.simulation``: run histories, as long or as many as is asked for."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from multiprocessing import Pool

from rich.console import Console
from rich.progress import Progress

from tests.simulation.census import FEWEST_HISTORIES, never_seen
from tests.simulation.history import Result, run_history

LINE_INTERVAL = 60.0  # seconds


class Campaign:
    """Histories that were run, and what they came to."""

    def __init__(self) -> None:
        self.histories = 0
        self.operations = 0
        self.seen: Counter[str] = Counter()
        self.failed: list[Result] = []

    @property
    def summary(self) -> str:
        """How much was done."""
        return (
            f"{self.histories:,} histories with {self.operations:,} operations and "
            f"{self.seen['task started']:,} attempts"
        )

    def add(self, result: Result) -> None:
        """Count a history."""
        self.histories += 1
        self.operations += result.operations
        self.seen.update(result.seen)
        if result.failure is not None:
            self.failed.append(result)


def main() -> int:
    """Run histories; return 1 when one failed, or something that must happen never did."""
    args = _arguments()
    console = Console()
    campaign = Campaign()
    started = time.monotonic()
    total = args.seconds or args.seeds[1] - args.seeds[0]
    with (
        _shown(console, total) as show,
        closing(_results(args.seeds, args.seconds, args.processes)) as results,
    ):
        for result in results:
            campaign.add(result)
            passed = time.monotonic() - started
            show(passed if args.seconds else campaign.histories, campaign.summary)
            if result.failure is not None:
                _tell(result, console)
                if not args.keep_going:
                    break
    return _account(campaign, console, time.monotonic() - started)


@contextmanager
def _shown(console: Console, total: float) -> Iterator[Callable[[float, str], None]]:
    """Yield what shows how far it has come: a bar, or a line each minute where nobody looks."""
    told_at = time.monotonic()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task("histories", total=total)

        def show(done: float, about: str) -> None:
            nonlocal told_at
            bar.update(shown, completed=done, description=about)
            if not console.is_terminal and time.monotonic() > told_at + LINE_INTERVAL:
                told_at = time.monotonic()
                print(about, flush=True)

        yield show


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=_range, default=None, help="12, or 0-999")
    parser.add_argument("--seconds", type=float, default=None, help="run for so long")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--keep-going", action="store_true", help="do not end at a failure")
    args = parser.parse_args()
    if args.seeds is None:
        first = time.time_ns() // 1_000_000_000 * 1000 if args.seconds else 0
        args.seeds = first, first + (10**9 if args.seconds else 100)
    return args


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first) + 1


def _results(
    seeds: tuple[int, int], seconds: float | None, processes: int
) -> Generator[Result, None, None]:
    """Yield what histories come to, as they end."""
    ends_at = None if seconds is None else time.monotonic() + seconds
    with Pool(processes) as pool:  # ends them when it is left
        for result in pool.imap_unordered(run_history, range(*seeds)):
            yield result
            if ends_at is not None and time.monotonic() >= ends_at:
                return


def _tell(result: Result, console: Console) -> None:
    console.print("\n".join(result.lines), highlight=False, markup=False)
    console.print(f"seed {result.seed}: {result.failure}", markup=False, style="bold red")


def _account(campaign: Campaign, console: Console, seconds: float) -> int:
    for name, number in sorted(campaign.seen.items()):
        console.print(f"{number:>12,}  {name}", highlight=False)
    failed = f", {len(campaign.failed):,} failed" if campaign.failed else ""
    console.print(f"{campaign.summary} in {seconds:.0f} s{failed}", highlight=False)
    missing = never_seen(campaign.seen) if campaign.histories >= FEWEST_HISTORIES else []
    for name in missing:
        console.print(f"never happened: {name}", style="bold red")
    return int(bool(campaign.failed or missing))


if __name__ == "__main__":
    sys.exit(main())
