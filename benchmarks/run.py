"""Runs all benchmarks in turn, and writes the report; ``--quick`` uses small sizes."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks import report, servers
from benchmarks.measuring import QUICK

PATIENCE = 600  # seconds for one question


def main() -> int:
    """Run all benchmarks; return how many failed."""
    servers.install()
    begun = time.monotonic()
    failed = [question for question in report.QUESTIONS if not _asked(question)]
    page = report.write()
    minutes = (time.monotonic() - begun) / 60
    sys.stdout.write(f"\nThe report is {page}; it took {minutes:.1f} minutes.\n")
    for question in failed:
        sys.stderr.write(f"no answer from benchmarks/{question}.py\n")
    return len(failed)


def _asked(question: str) -> bool:
    """Run a benchmark in a separate process; return whether it succeeded."""
    command = [sys.executable, "-m", f"benchmarks.{question}", *(["--quick"] if QUICK else [])]
    report.forget(question)
    begun = time.monotonic()
    try:
        status = subprocess.run(command, timeout=PATIENCE, check=False).returncode
    except subprocess.TimeoutExpired:
        status = -1
    sys.stdout.write(f"\n({question}: {time.monotonic() - begun:.0f} s)\n")
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
