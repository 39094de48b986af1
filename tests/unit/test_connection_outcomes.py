from __future__ import annotations

import errno

import pytest

from poussetaches.core.cause import Cause
from poussetaches.engine.connection_outcomes import not_connected
from poussetaches.http_client.errors import NotConnected


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ECONNREFUSED, Cause.NOT_CONNECTED),
        (errno.ENETUNREACH, Cause.NOT_CONNECTED),
        (errno.EAFNOSUPPORT, Cause.NOT_CONNECTED),
        (None, Cause.NOT_CONNECTED),
        (errno.EMFILE, Cause.OUT_OF_RESOURCES),
        (errno.ENFILE, Cause.OUT_OF_RESOURCES),
        (errno.ENOBUFS, Cause.OUT_OF_RESOURCES),
        (errno.ENOMEM, Cause.OUT_OF_RESOURCES),
        # Only one destination is out of reach: it is held, and others are sent to.
        (errno.EADDRNOTAVAIL, Cause.NO_LOCAL_PORT),
        (errno.EAGAIN, Cause.NO_LOCAL_PORT),
    ],
    ids=lambda value: errno.errorcode.get(value, "unknown") if type(value) is int else "",
)
def test_error_number_says_whose_fault_it_is(number: int | None, cause: Cause) -> None:
    outcome = not_connected(NotConnected("the reason", number))

    assert outcome.cause is cause
    assert outcome.error is not None
    assert outcome.error.endswith("the reason")
