"""``python -m tests.simulation``: run histories for a given time, or a given range of seeds."""

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

from tests.simulation.expected_events import MIN_HISTORIES, missing_events
from tests.simulation.history import Result, run_history

LINE_INTERVAL = 60.0  # seconds


class Campaign:
    """The results of all histories of a run."""

    def __init__(self) -> None:
        self.histories = 0
        self.operations = 0
        self.seen: Counter[str] = Counter()
        self.failed: list[Result] = []

    @property
    def summary(self) -> str:
        """The numbers of histories, operations and attempts."""
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
    """Run histories; return 1 if one failed, or an expected event did not occur."""
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
                _print_failure(result, console)
                if not args.keep_going:
                    break
    return _print_summary(campaign, console, time.monotonic() - started)


@contextmanager
def _shown(console: Console, total: float) -> Iterator[Callable[[float, str], None]]:
    """Yield a function that shows the progress: a bar, or without a terminal a line per minute."""
    printed_at = time.monotonic()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task("histories", total=total)

        def show(done: float, about: str) -> None:
            nonlocal printed_at
            bar.update(shown, completed=done, description=about)
            if not console.is_terminal and time.monotonic() > printed_at + LINE_INTERVAL:
                printed_at = time.monotonic()
                print(about, flush=True)

        yield show


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=_range, default=None, help="12, or 0-999")
    parser.add_argument("--seconds", type=float, default=None, help="how long to run")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a failure")
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
    """Yield the results of histories as they end."""
    ends_at = None if seconds is None else time.monotonic() + seconds
    with Pool(processes) as pool:  # terminates its processes at the end of the block
        for result in pool.imap_unordered(run_history, range(*seeds)):
            yield result
            if ends_at is not None and time.monotonic() >= ends_at:
                return


def _print_failure(result: Result, console: Console) -> None:
    console.print("\n".join(result.lines), highlight=False, markup=False)
    console.print(f"seed {result.seed}: {result.failure}", markup=False, style="bold red")


def _print_summary(campaign: Campaign, console: Console, seconds: float) -> int:
    for name, number in sorted(campaign.seen.items()):
        console.print(f"{number:>12,}  {name}", highlight=False)
    failed = f", {len(campaign.failed):,} failed" if campaign.failed else ""
    console.print(f"{campaign.summary} in {seconds:.0f} s{failed}", highlight=False)
    missing = missing_events(campaign.seen) if campaign.histories >= MIN_HISTORIES else []
    for name in missing:
        console.print(f"did not occur: {name}", style="bold red")
    return int(bool(campaign.failed or missing))


if __name__ == "__main__":
    sys.exit(main())
