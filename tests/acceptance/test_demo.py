"""``make demo``, as a new user runs it."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.acceptance.harness import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo" / "demo.py"


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return our environment with a folder for temporary files, and without proxies."""
    return {**os.environ, "TMPDIR": str(folder), "no_proxy": "127.0.0.1", **more}


def start_demo(*flags: str, folder: Path, output: int, **more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(DEMO), *flags],
        env=environment(folder, **more),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ports_in(text: str) -> list[int]:
    return sorted({int(port) for port in re.findall(r"on http://127\.0\.0\.1:(\d+)", text)})


def test_demo_draws_a_table_on_a_terminal_and_leaves_no_files(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    process = start_demo(folder=tmp_path, output=theirs, TERM="xterm", COLUMNS="150")
    drawn = bytearray()

    def ended() -> int | None:
        # The terminal's buffer is small: without a reader, the demonstration waits.
        with suppress(BlockingIOError):
            drawn.extend(os.read(ours, 1 << 16))
        return process.poll()

    try:
        status = wait_until(ended, lambda status: status is not None, "the demo to end")
        ended()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)

    text = drawn.decode()
    assert status == 0, text
    assert "next attempt in" in text
    assert "\x1b[" in text
    assert "All 5 tasks are as they should be" in text
    assert [port for port in ports_in(text) if listens(port)] == []
    assert list(tmp_path.iterdir()) == []


def test_demo_prints_lines_without_a_terminal_and_keeps_running_with_keep(tmp_path: Path) -> None:
    log, temporary = tmp_path / "log", tmp_path / "temporary"
    temporary.mkdir()
    with log.open("wb") as output:
        process = start_demo("--keep", folder=temporary, output=output.fileno())
    try:
        wait_until(
            lambda: (process.poll(), log.read_text()),
            lambda seen: seen[0] is not None or "keep running" in seen[1],
            "the demo to come to its end",
        )
        kept = [listens(port) for port in ports_in(log.read_text())]
        suggested = [line.strip() for line in log.read_text().splitlines() if "  curl " in line]
        tried = [
            subprocess.run(
                ["/bin/sh", "-c", line.replace("curl ", "curl -fsS ", 1)],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            for line in suggested
        ]
        process.send_signal(signal.SIGTERM)
        status = process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()

    text = log.read_text()
    assert status == 0, text
    assert kept == [True, True]
    assert [(each.returncode, each.stderr) for each in tried] == [(0, "")] * 5
    assert "\x1b" not in text
    for line in (
        "welcome mail   succeeded at attempt 1",
        "feed import    attempt 1 failed: 503 the feed is not there yet",
        "feed import    succeeded at attempt 3",
        "broken report  dead after 4 attempts, the last: 500 the template is missing",
        "reminder       delayed by 1 minute",
        "clean-up       scheduled @every 2s, 3 runs succeeded",
    ):
        assert line in text
    assert [port for port in ports_in(text) if listens(port)] == []
    assert list(temporary.iterdir()) == []


def test_demo_reports_why_its_server_does_not_start(tmp_path: Path) -> None:
    broken = tmp_path / "packages" / "poussetaches"
    broken.mkdir(parents=True)
    (broken / "__init__.py").touch()
    (broken / "__main__.py").write_text("import sys\nsys.exit('no room for me')\n")

    result = subprocess.run(
        [sys.executable, str(DEMO)],
        env=environment(tmp_path, PYTHONPATH=str(broken.parent)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert result.returncode == 1
    assert result.stderr == (
        "demo: the server ended with status 1\nthe end of the server's log:\n  no room for me\n"
    )
