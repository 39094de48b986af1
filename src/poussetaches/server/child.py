"""``Child``: a process that is started by the server, and ends before it or with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence

from poussetaches.relaunch import launch_command, own_environment

POLL_INTERVAL = 0.05  # seconds; the ends of grandchildren are not signalled to this process
SIGNALLED = 128  # shells add the number of the signal that ended a process

log = logging.getLogger(__name__)


class Child:
    """One command, in a session of its own: a terminal's Ctrl-C reaches the server alone."""

    def __init__(
        self, name: str, command: Sequence[str], *, environ: Mapping[str, str], reads: bool
    ) -> None:
        """Take a command whose first word is the path of a program.

        ``name`` is for the log; ``reads`` says whether it gets our standard input.
        """
        self.name = name
        self._command = command
        self._environ = environ
        self._stdin = None if reads else asyncio.subprocess.DEVNULL
        self._process: Process | None = None
        self._group: int | None = None  # while a process of the group may be alive
        self._stop_signals: set[int] = set()  # an end by one of these counts as success
        self._stopped = False

    @property
    def process_id(self) -> int | None:
        """Its process id, which is also its session id; None before the start."""
        return None if self._process is None else self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, as in shells: 128 plus the signal that ended it.

        The status is 0 if that is a signal that was sent to stop it, or was excused. Servers such
        as uvicorn raise the signal again after their shutdown, and service managers treat 143 as a
        failure.
        """
        code = None if self._process is None else self._process.returncode
        if code is None:
            return None
        status = SIGNALLED - code if code < 0 else code
        return 0 if status - SIGNALLED in self._stop_signals else status

    @property
    def ended_by_itself(self) -> bool:
        """Return whether it ended before it was sent a signal to end it."""
        return self.status is not None and not self._stopped

    async def start(self) -> None:
        """Start the process."""
        self._process = await asyncio.create_subprocess_exec(
            *launch_command(str(os.getpid()), *self._command),
            env=own_environment(self._environ),
            stdin=self._stdin,
            start_new_session=True,
        )
        self._group = self._process.pid
        log.info("%s started", self.name, extra={"pid": self._process.pid})

    async def ended(self) -> None:
        """Wait until the process has ended."""
        if self._process is not None:
            await self._process.wait()
            log.info("%s ended", self.name, extra={"status": self.status})

    def stop(self, number: int) -> None:
        """Send it a signal to end it; ignored if it has ended already."""
        if self._process is not None and self._process.returncode is None:
            self._stopped = True
            self.excuse(number)
            self.signal(number)

    def excuse(self, number: int) -> None:
        """Count an end by this signal as success, also if another process sent it."""
        self._stop_signals.add(number)

    def signal(self, number: int) -> None:
        """Send it a signal, and not to what it started."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def end(self, number: int, limit: float) -> None:
        """End the process and its group by a signal; kill them after ``limit`` seconds."""
        if self._process is None or self._group is None:
            return
        self.stop(number)
        try:
            async with asyncio.timeout(limit):
                await self._process.wait()
                await _group_ended(self._group)
        except TimeoutError:
            log.warning("%s killed", self.name, extra={"after": limit})
            self.kill()
            await self._process.wait()
        self._group = None

    def kill(self) -> None:
        """Kill the process and its group."""
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)


async def _group_ended(group: int) -> None:
    """End the rest of a process group: a shell may end before the processes it started."""
    number = signal.SIGTERM.value
    while _is_there(group, number):
        number = 0
        await asyncio.sleep(POLL_INTERVAL)


def _is_there(group: int, number: int) -> bool:
    """Return whether a group has members, and send them a signal; 0 sends none."""
    # The first process of a container inherits orphans and must reap them.
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0] != 0:
            pass
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
