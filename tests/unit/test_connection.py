from __future__ import annotations

import errno

import pytest

from poussetaches.engine.connection import not_connected


@pytest.mark.parametrize(
    ("number", "unreachable", "out_of_resources"),
    [
        (errno.ECONNREFUSED, True, False),
        (errno.ENETUNREACH, True, False),
        (errno.EAFNOSUPPORT, True, False),
        (None, True, False),
        (errno.EMFILE, False, True),
        (errno.ENFILE, False, True),
        (errno.ENOBUFS, False, True),
        (errno.ENOMEM, False, True),
        # Only one destination is out of reach: it is held, and others are sent to.
        (errno.EADDRNOTAVAIL, True, True),
        (errno.EAGAIN, True, True),
    ],
    ids=lambda value: errno.errorcode.get(value, "unknown") if type(value) is int else "",
)
def test_error_number_says_whose_fault_it_is(
    number: int | None, unreachable: bool, out_of_resources: bool
) -> None:
    outcome = not_connected(number, "the reason")

    assert (outcome.unreachable, outcome.out_of_resources) == (unreachable, out_of_resources)
    assert outcome.error is not None
    assert outcome.error.endswith("the reason")
