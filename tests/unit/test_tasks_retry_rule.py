"""Exceptions of a handler that make its task dead at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from poussetaches.client.arguments import DefinitionError
from poussetaches.client.handler_exception import GiveUp, RetryLater
from poussetaches.client.receiver import Receiver
from tests.application import NOW, delivery, make_tasks

Kinds = Sequence[type[Exception]]


@pytest.mark.parametrize(
    ("give_up_on", "retry_on", "raised", "retried"),
    [
        ((), None, ValueError(), True),
        ((ValueError,), None, ValueError(), False),
        ((ValueError,), None, KeyError(), True),
        ((LookupError,), None, KeyError(), False),  # a subclass
        ((), (ConnectionError,), ConnectionResetError(), True),
        ((), (ConnectionError,), ValueError(), False),
        ((), (), ValueError(), False),
        ((ConnectionResetError,), (ConnectionError,), ConnectionResetError(), False),
        ((ConnectionResetError,), (ConnectionError,), ConnectionAbortedError(), True),
        ((Exception,), None, RetryLater(after=1), True),  # what the handler says counts
        ((), (Exception,), GiveUp(), False),
        ((), (ConnectionError,), SystemExit(1), False),
    ],
)
def test_exception_is_retried_as_the_definition_says(
    give_up_on: Kinds, retry_on: Kinds | None, raised: BaseException, retried: bool
) -> None:
    tasks = make_tasks()

    @tasks.task(give_up_on=give_up_on, retry_on=retry_on)
    def handler() -> None:
        raise raised

    reply = Receiver(tasks, clock=lambda: NOW).run(delivery(handler))

    assert reply.status in (500, 503)
    assert ("Poussetaches-Retry" not in reply.headers) is retried


@pytest.mark.parametrize("option", ["give_up_on", "retry_on"])
@pytest.mark.parametrize(
    "given",
    [(ValueError(),), ("ValueError",), (KeyboardInterrupt,), (int,), ValueError, "ValueError", 7],
)
def test_value_that_is_no_sequence_of_exception_classes_is_refused(
    option: str, given: Any
) -> None:
    with pytest.raises(DefinitionError) as refused:
        make_tasks().task(**{option: given})(lambda: None)

    assert str(refused.value) == (
        f"{option} takes exception classes, as in {option}=(ValueError, KeyError), not {given!r}"
    )
