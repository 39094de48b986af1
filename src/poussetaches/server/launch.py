"""Runs a command in place of this process, which ends with its parent.

It is a script, ``launch.py PARENT PROGRAM [ARGUMENT …]``: these steps must be done in the new
process, and no Python code is safe between fork and exec while threads run.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)
NOT_EXECUTABLE = 126  # as in shells
NOT_FOUND = 127


def main(parent: int, command: list[str]) -> int:
    end_with(parent)
    # Python ignores these two, and its child processes would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execv(command[0], command)  # noqa: S606 - the user's own command
    except OSError as exc:
        sys.stderr.write(f"poussetaches: cannot run {command[0]}: {exc.strerror}\n")
        return NOT_FOUND if isinstance(exc, FileNotFoundError) else NOT_EXECUTABLE


def end_with(parent: int) -> None:
    """Request SIGTERM when the parent ends or is killed. On Linux only."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before it was watched
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
