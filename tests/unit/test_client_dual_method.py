"""Methods that are written once for a blocking and an asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing

import pytest

from poussetaches.client.dual_method import Asynchronous, Blocking, dual_iterator, dual_method


class Suspension:
    def __await__(self) -> Generator[None, None, None]:
        yield


class Counter:
    def __init__(self) -> None:
        self.closed = False

    @dual_method
    async def double(self, number: int, *, plus: int = 0) -> int:
        if number < 0:
            raise ValueError("negative")
        return 2 * number + plus

    @dual_method
    async def suspend(self) -> None:
        await Suspension()

    @dual_iterator
    async def count(self, end: int) -> AsyncGenerator[int, None]:
        try:
            for number in range(end):
                yield number
        finally:
            self.closed = True


class BlockingCounter(Counter, Blocking):
    pass


class AsyncCounter(Counter, Asynchronous):
    pass


def test_blocking_method_returns_the_result_itself() -> None:
    assert BlockingCounter().double(2, plus=1) == 5


async def test_asynchronous_method_is_awaited() -> None:
    assert await AsyncCounter().double(2, plus=1) == 5


async def test_blocking_method_works_while_an_event_loop_runs() -> None:
    counter = BlockingCounter()

    assert (counter.double(2), list(counter.count(3))) == (4, [0, 1, 2])


def test_exception_of_a_blocking_method_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="negative"):
        BlockingCounter().double(-1)


def test_method_of_a_class_takes_the_object_as_its_first_argument() -> None:
    assert BlockingCounter.double(BlockingCounter(), 3) == 6


def test_override_can_call_the_method_that_it_replaces() -> None:
    class Tripled(BlockingCounter):
        def count_to(self, end: int) -> list[int]:
            return [super(Tripled, self).double(number) for number in self.count(end)]

    assert Tripled().count_to(3) == [0, 2, 4]


def test_blocking_iterator_that_is_left_early_closes_its_generator() -> None:
    counter = BlockingCounter()
    numbers = counter.count(3)
    assert next(numbers) == 0

    numbers.close()

    assert counter.closed


async def test_asynchronous_iterator_is_an_asynchronous_generator() -> None:
    counter = AsyncCounter()

    async with aclosing(counter.count(3)) as numbers:
        assert [number async for number in numbers] == [0, 1, 2]

    assert counter.closed


def test_blocking_method_that_suspends_raises_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="suspends"):
        BlockingCounter().suspend()
