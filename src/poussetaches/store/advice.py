"""What to do about an error of the operating system."""

from __future__ import annotations

import errno
from pathlib import Path

_OWNER = "give it to the user that runs poussetaches"
_ADVICE = {
    errno.EACCES: _OWNER,
    errno.EPERM: _OWNER,
    errno.EIO: "see in the system's log whether the disk fails",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the whole machine has too many: close some of them",
    errno.ENOSPC: "make room and start again",
    errno.EDQUOT: "make room and start again",
}


def advice_on(exc: OSError, otherwise: str = "") -> str:
    """Return the rest of a sentence that says what went wrong, with the mark before it."""
    advice = _ADVICE.get(exc.errno or 0, otherwise)
    return f"; {advice}" if advice else ""


def cannot_be_opened(exc: OSError, path: Path | None) -> str:
    """Return what is to be said of a file that cannot be opened; the error may name another."""
    return f"{exc.filename or path} cannot be opened: {exc.strerror or exc}{advice_on(exc)}"
