"""The first module of the executable: keeps loader and program together, then runs the program.

The loader is the visible process: it passes on signals, and ends with the status of the
program. docs/decisions/0042-distribution.md says why there are two processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from poussetaches.relaunch import LAUNCH, restore_environment

PR_SET_PDEATHSIG = 1  # prctl(2)
UNPACKED = "_MEI*"  # the loader's temporary folders
OURS = "poussetaches/store/sql"  # in each of this program's folders
ZONES = "tzdata.zip"  # the package tzdata; zoneinfo prefers the machine's own time zones
UNPACKING = 60.0  # seconds; the lock is taken once the files are unpacked


def main() -> int:
    """Run the program, or what it starts itself again for."""
    if sys.argv[1:2] == [LAUNCH]:
        restore_environment(os.environ)
        from poussetaches.server.launch import main as launch  # noqa: PLC0415  # not for servers

        return launch(int(sys.argv[2]), sys.argv[3:])
    unpacked = Path(sys._MEIPASS)  # type: ignore[attr-defined]  # PyInstaller's
    if restore_environment(os.environ):
        end_with_loader()
        leave_process_group()
    sys.path.append(str(unpacked / ZONES))
    hold(unpacked)
    remove_leftovers(unpacked)
    from poussetaches.__main__ import main as run  # noqa: PLC0415  # after the environment

    return run()


def end_with_loader() -> None:
    """Ask the kernel to kill this process when the loader is killed.

    Otherwise, the server would survive `kill -9` of the loader and keep its data folder locked.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with contextlib.suppress(OSError):  # no /proc
        if not Path(f"/proc/{os.getppid()}/exe").samefile("/proc/self/exe"):
            os.kill(os.getpid(), signal.SIGKILL)  # the loader ended before it was watched


def leave_process_group() -> None:
    """Receive Ctrl-C once: a terminal sends it to the group, and the loader passes it on."""
    os.setpgid(0, 0)


def hold(unpacked: Path) -> None:
    """Lock the unpacked files until this process ends.

    The lock tells `remove_leftovers` and systemd-tmpfiles that they are in use.
    """
    folder = os.open(unpacked, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)


def remove_leftovers(unpacked: Path) -> None:
    """Remove the folders of killed loaders, 32 MB each."""
    for other in unpacked.parent.glob(UNPACKED):
        with contextlib.suppress(OSError):
            status = other.stat(follow_symlinks=False)
            if (
                status.st_uid == os.getuid()
                and time.time() - status.st_mtime > UNPACKING
                and (other / OURS).is_dir()
            ):
                remove_unused(other)


def remove_unused(folder: Path) -> None:
    """Remove a folder unless a process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
