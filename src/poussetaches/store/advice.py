"""Advice on errors of the operating system."""

from __future__ import annotations

import errno
from pathlib import Path

_CHANGE_OWNER = "give it to the user that runs poussetaches"
_ADVICE = {
    errno.EACCES: _CHANGE_OWNER,
    errno.EPERM: _CHANGE_OWNER,
    errno.EIO: "check the system log for disk errors",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of the machine (fs.file-max), or stop other programs",
    errno.ENOSPC: "free some space and start again",
    errno.EDQUOT: "free some space and start again",
}


def advice_on(exc: OSError) -> str:
    """Return advice to append to an error message, with a semicolon; empty if there is none."""
    advice = _ADVICE.get(exc.errno or 0)
    return f"; {advice}" if advice else ""


def cannot_be_opened(exc: OSError, path: Path | None) -> str:
    """Return the message for a file that cannot be opened; the error may name another file."""
    return f"{exc.filename or path} cannot be opened: {exc.strerror or exc}{advice_on(exc)}"
