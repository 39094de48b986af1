"""Why a receiver refuses a delivery: a code in the second line of its response.

The first line is a sentence, by which the server groups failures.
"""

from __future__ import annotations

from enum import StrEnum

_PREFIX = "poussetaches-refusal: "


class RefusalCode(StrEnum):
    """Why a receiver refuses a delivery before it looks at the task."""

    INVALID_SETTINGS = "invalid-settings"
    NO_KEY_CONFIGURED = "no-key-configured"
    WRONG_KEY = "wrong-key"  # or none
    WRONG_SIGNATURE = "wrong-signature"  # or none
    WRONG_TIME = "wrong-time"  # the signature is too old or too new
    OLD_SERVER = "old-server"  # it sends the wrong kind of signature


def refusal_line(code: RefusalCode) -> str:
    """Return the line of a response that has the code."""
    return _PREFIX + code


def refusal_in(response: str) -> RefusalCode | None:
    """Return the code in a response; None if it is not a receiver's refusal."""
    for line in response.splitlines()[1:2]:
        if line.startswith(_PREFIX) and line.removeprefix(_PREFIX) in list(RefusalCode):
            return RefusalCode(line.removeprefix(_PREFIX))
    return None
