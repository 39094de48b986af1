"""``python -m tests.simulation``: run histories, as long or as many as is asked for."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from multiprocessing import Pool

from rich.console import Console
from rich.progress import Progress

from tests.simulation.census import FEWEST_HISTORIES, never_seen
from tests.simulation.history import Result, run_history


class Campaign:
    """Histories that were run, and what they came to."""

    def __init__(self) -> None:
        self.histories = 0
        self.operations = 0
        self.seen: Counter[str] = Counter()
        self.failed: list[Result] = []

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
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("histories", total=args.seconds or args.seeds[1] - args.seeds[0])
        started = time.monotonic()
        with closing(_results(args.seeds, args.seconds, args.processes)) as results:
            for result in results:
                campaign.add(result)
                done = time.monotonic() - started if args.seconds else campaign.histories
                about = f"{campaign.histories:,} histories, {campaign.operations:,} operations"
                progress.update(bar, completed=done, description=about)
                if result.failure is not None and not args.keep_going:
                    break
    return _account(campaign, console, time.monotonic() - started)


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


def _account(campaign: Campaign, console: Console, seconds: float) -> int:
    for name, number in sorted(campaign.seen.items()):
        console.print(f"{number:>12,}  {name}", highlight=False)
    console.print(
        f"{campaign.histories:,} histories with {campaign.operations:,} operations and "
        f"{campaign.seen['task started']:,} attempts in {seconds:.0f} s",
        highlight=False,
    )
    for result in campaign.failed:
        console.print("\n".join(result.lines), highlight=False, markup=False)
        console.print(f"seed {result.seed}: {result.failure}", markup=False, style="bold red")
    missing = never_seen(campaign.seen) if campaign.histories >= FEWEST_HISTORIES else []
    for name in missing:
        console.print(f"never happened: {name}", style="bold red")
    return int(bool(campaign.failed or missing))


if __name__ == "__main__":
    sys.exit(main())
