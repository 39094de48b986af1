"""Our pages, and their commands, run by the shell that a reader would use."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from tests.acceptance.harness import PATIENCE, free_port, wait_until

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        ROOT / "benchmarks" / "README.md",
    ]
)

SERVER = "http://127.0.0.1:7991"
APPLICATION = "http://127.0.0.1:5000"

# A refused request must end the script; a stream that was cut off on purpose must not.
PRELUDE = """
set -eu -o pipefail
curl() {
    local status=0
    command curl --silent --show-error --fail-with-body "$@" || status=$?
    case "$status $*" in 28\\ *--max-time*) status=0 ;; esac
    echo
    return $status
}
"""


def code_blocks(text: str, language: str) -> list[str]:
    """Return the blocks of a page that are in a language."""
    return re.findall(rf"```{language}[^\n]*\n(.*?)```", text, re.DOTALL)


def execute(module: ModuleType, code: str) -> None:
    """Run a block of Python in a module."""
    exec(code, module.__dict__)  # noqa: S102  # our own pages


def bash() -> str:
    """Return where the shell is; fail when it, or what it needs, is missing."""
    found = shutil.which("bash")
    assert found and shutil.which("curl"), "the examples need curl: sudo apt install curl"
    return found


def run(commands: str, *, server: str, application: str, **variables: str) -> str:
    """Run commands to their end and return what they print; fail when one of them fails."""
    script = commands.replace(SERVER, server).replace(APPLICATION, application)
    ran = subprocess.run(
        [bash(), "-c", PRELUDE + script],
        env={**os.environ, **variables, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@contextmanager
def running(script: str, folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Run a script in the background; it has ended when this has, and its output is in ``log``."""
    environment = {
        **os.environ,
        "no_proxy": "127.0.0.1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "",  # written at once, so that no other output is mixed in
        **variables,
    }
    # Apart: curl mixes its progress with other output.
    with (folder / "log").open("wb") as log, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [bash(), "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield
        process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run_quickstart(folder: Path, start: str, call: str, *, port: int) -> str:
    """Start an application on a port, call it, and wait until its task ran.

    Return the output of the call.
    """
    server = free_port()
    script = f"{start.strip()} &\nread -r _\nkill %1\nwait\n"
    variables = {"POUSSETACHES_PORT": str(server), "POUSSETACHES_AUTH_KEY": ""}
    call = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", call)

    with running(script, folder, variables | {"PYTHONUNBUFFERED": "1"}):
        wait_until(lambda: listens(port), bool, "the application to listen")
        printed = run(call, server="", application="")
        log = folder / "log"
        wait_until(log.read_text, lambda text: "Welcome, Ada!" in text, "the task to run")

    assert not listens(server)
    assert not listens(port)
    return printed
