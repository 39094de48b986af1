"""Measures how long an application takes to import the client."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.answers import Answer, Table, publish
from benchmarks.measuring import in_ms, scaled

TIMES = scaled(30, quick=5)
CLIENT = "`Client` and `AsyncClient`"
IMPORTS = {
    CLIENT: "from poussetaches.client import AsyncClient, Client",
    "of it msgspec": "import msgspec",
    "the original's `PousseTaches`": "from poussetaches import PousseTaches",
    "task functions, without a framework": "import poussetaches.client.tasks",
    "of it asyncio": "import asyncio",
}


def started(code: str) -> float:
    """Return the minimum of the seconds that an interpreter takes to run some code."""
    found = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        found.append(time.perf_counter() - begun)
    return min(found)


async def answer() -> Answer:
    """Compare with an interpreter that imports nothing."""
    bare = started("pass")
    above = {name: started(code) - bare for name, code in IMPORTS.items()}
    rows = [[name, in_ms(seconds)] for name, seconds in above.items()]
    note = f"The bare interpreter took {in_ms(bare)} ms. The best of {TIMES} starts each."
    return Answer(
        question="imports",
        tables=[Table("Importing the client", ["", "ms above the interpreter"], rows, note)],
        figures={"client_import": above[CLIENT]},
    )


if __name__ == "__main__":
    publish(answer())
