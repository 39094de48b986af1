"""The machine: its cores, and the CPU time and memory of processes (Linux only)."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

SERVER_CORE, LOAD_CORE = 0, 1
TICKS = os.sysconf("SC_CLK_TCK")


def pin(core: int) -> None:
    """Run this process and its later children on one core."""
    os.sched_setaffinity(0, {core})


def unpin() -> None:
    """Run on all cores again."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))


def on_core(core: int) -> list[str]:
    """Return the beginning of a command that runs on one core."""
    return ["/usr/bin/taskset", "-c", str(core)]


def cpu_seconds(process: int) -> float:
    """Return the CPU time that a process has used (proc(5), fields 14 and 15 of stat)."""
    fields = _stat(process)
    return (int(fields[11]) + int(fields[12])) / TICKS


def kernel_seconds(process: int) -> float:
    """Return the CPU time that a process has used in the kernel."""
    return int(_stat(process)[12]) / TICKS


def session_cpu_seconds(session: int) -> float:
    """Return the CPU time of a session's processes and of their ended children."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = _stat(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:
            total += sum(int(field) for field in fields[11:15])
    return total / TICKS


def memory(process: int) -> float:
    """Return the resident memory of a process, in MB (10^6 bytes)."""
    return int(_status(process, "VmRSS:")) * 1024 / 1e6


def wake_ups(process: int) -> int:
    """Return how often the threads of a process went to sleep and woke up."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int(_status(int(path.name), "voluntary_ctxt_switches:")) for path in threads)


class Usage(NamedTuple):
    """The CPU time of all cores since the start of the machine, in ticks (proc(5), stat)."""

    total: int
    stolen: int  # by other machines on the same hardware
    idle: int

    @classmethod
    def now(cls) -> Usage:
        """Return the usage up to now."""
        fields = [
            int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        ]
        return cls(sum(fields[:8]), fields[7], fields[3] + fields[4])

    def since(self, before: Usage) -> str:
        """Return how busy the machine was since then."""
        total = max(1, self.total - before.total)
        stolen, idle = (self.stolen - before.stolen) / total, (self.idle - before.idle) / total
        return f"{1 - idle - stolen:.0%} of its cores used, {stolen:.1%} stolen"


def waiting_load() -> str:
    """Return the load averages: running and waiting processes over 1, 5 and 15 minutes."""
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


def described() -> dict[str, str]:
    """Return the description of the machine, and the versions of its software."""
    names = ("uvicorn", "uvloop", "httptools", "starlette", "pyreqwest", "msgspec")
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.partition(":")[2].strip() for line in cpus if line.startswith("model name")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{os.cpu_count()} cores of {', '.join(sorted(models))}",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **{name: version(name) for name in names},
    }


def _stat(process: int) -> list[str]:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _status(process: int, name: str) -> str:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name))
