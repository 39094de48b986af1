"""Making requests with timeouts and retries, and reading lists, for both clients."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from poussetaches.client.call import Call, Query, optional_query
from poussetaches.client.durations import Seconds, in_seconds
from poussetaches.client.errors import NoAnswer, Refused
from poussetaches.client.installation import warn_of_original
from poussetaches.client.results import TaskInfo, TaskPage
from poussetaches.client.retry_timer import RetryTimer
from poussetaches.client.server_answer import Answer, check_empty, check_status, read_answer
from poussetaches.client.single_push import KEY_LENGTH
from poussetaches.client.transport import AsyncTransport

T = TypeVar("T")

BULK_TIMEOUT = 600.0  # seconds: a bulk call goes through all tasks


class Caller:
    """Makes requests through a transport; the methods of the clients build on it."""

    def __init__(
        self,
        transport: AsyncTransport,
        *,
        timeout: Seconds,
        push_timeout: Seconds,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        entropy: Callable[[int], bytes],
    ) -> None:
        warn_of_original()
        self._transport = transport
        self._timeout = in_seconds(timeout)
        self.push_timeout = in_seconds(push_timeout)
        self._monotonic = monotonic
        self._sleep = sleep
        self._new_key = lambda: entropy(KEY_LENGTH).hex()

    async def _read(self, call: Call, kind: type[T], *, min_timeout: float = 0.0) -> T:
        """Make a request, and return its answer as a type."""
        return read_answer(await self._send(call, max(self._timeout, min_timeout)), kind)

    async def _do(self, call: Call, *, min_timeout: float = 0.0) -> None:
        """Make a request whose answer has no content."""
        check_empty(await self._send(call, max(self._timeout, min_timeout)))

    async def _send(self, call: Call, seconds: float) -> Answer:
        return await self._transport.send(call, timeout=seconds)

    async def _send_until_done(self, call: Call, seconds: float) -> Answer:
        """Repeat a request for at most so many seconds, while its errors are temporary."""
        timer = RetryTimer(seconds, monotonic=self._monotonic)
        while True:
            try:
                answer = await self._send(call, timer.timeout)
                check_status(answer)
            except (NoAnswer, Refused) as exc:
                await self._sleep(timer.pause_after(exc))
            else:
                return answer

    async def _pages(
        self, path: str, query: Query, *, page_size: int
    ) -> AsyncGenerator[TaskInfo, None]:
        """Yield the tasks of a list, page by page."""
        cursor = None
        while True:
            whole = (*query, *optional_query(limit=str(page_size), cursor=cursor))
            page = await self._read(Call("GET", path, whole), TaskPage)
            for task in page.tasks:
                yield task
            cursor = page.next_cursor
            if cursor is None:
                return
