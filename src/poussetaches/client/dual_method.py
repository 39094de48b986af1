"""Methods written once, as coroutines, that a blocking client and an asynchronous client share.

On an asynchronous client they are ordinary coroutine methods. On a blocking client they return
the result itself: everything that such a client awaits blocks, so a coroutine never suspends and
its first step runs it to its end. See docs/decisions/0056-one-text-for-both-clients.md.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
)
from contextlib import asynccontextmanager
from functools import wraps
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from poussetaches.client.argument_types import ArgumentTypes, checked
from poussetaches.client.call import Call
from poussetaches.client.server_answer import Answer
from poussetaches.client.transport import Stream, Transport

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """A client whose dual methods block."""


class Asynchronous:
    """A client whose dual methods are awaited."""


class dual_method(Generic[P, T]):
    """A coroutine function as a method of both clients, which check its arguments' types."""

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        check = ArgumentTypes(method).check

        @wraps(method)
        def blocking(*args: Any, **kwargs: Any) -> T:
            check(args, kwargs)
            return result_of(method(*args, **kwargs))

        @wraps(method)
        async def asynchronous(*args: Any, **kwargs: Any) -> T:
            check(args, kwargs)
            return await method(*args, **kwargs)

        self._asynchronous = asynchronous
        self._blocking = blocking

    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, client: Asynchronous, owner: type
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: object, owner: type) -> Any:
        return _bound(self._blocking, self._asynchronous, client, owner)


class dual_iterator(Generic[P, T]):
    """A function that returns an asynchronous generator, as a method of both clients.

    They check its arguments' types.
    """

    def __init__(self, method: Callable[Concatenate[Any, P], AsyncGenerator[T, None]]) -> None:
        asynchronous = checked(method)

        @wraps(method)
        def blocking(*args: Any, **kwargs: Any) -> Generator[T, None, None]:
            return _items_of(asynchronous(*args, **kwargs))

        self._asynchronous = asynchronous
        self._blocking = blocking

    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(
        self, client: Asynchronous, owner: type
    ) -> Callable[P, AsyncGenerator[T, None]]: ...
    def __get__(self, client: object, owner: type) -> Any:
        return _bound(self._blocking, self._asynchronous, client, owner)


class BlockingTransport:
    """A blocking transport in the form that dual methods await."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(self, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109  # of a socket
        return self._transport.send(call, timeout=timeout)

    @asynccontextmanager
    async def stream(self, call: Call, *, silence: float) -> AsyncIterator[_BlockingStream]:
        with self._transport.stream(call, silence=silence) as stream:
            yield _BlockingStream(stream)

    async def close(self) -> None:
        self._transport.close()


class _BlockingStream:
    def __init__(self, stream: Stream) -> None:
        self.head = stream.head
        self._stream = stream

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._stream.pieces():
            yield piece


def blocking_sleep(sleep: Callable[[float], None]) -> Callable[[float], Awaitable[None]]:
    """Return a blocking sleep in the form that dual methods await."""

    async def pause(seconds: float) -> None:
        sleep(seconds)

    return pause


def result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise AssertionError("a blocking client awaited something that suspends")


def _items_of(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    try:
        while True:
            try:
                item = result_of(_next_of(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        # A caller that stops early must not keep the connection of a stream.
        result_of(items.aclose())


async def _next_of(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


def _bound(blocking: Any, asynchronous: Any, client: object, owner: type) -> Any:
    method = blocking if issubclass(owner, Blocking) else asynchronous
    return method if client is None else MethodType(method, client)
