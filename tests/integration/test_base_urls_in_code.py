"""Base URLs that the code sets, for several applications on one server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from poussetaches.client.client import AsyncClient, Client
from poussetaches.client.errors import PushFailed
from poussetaches.client.tasks import Tasks
from tests.acceptance.harness import Receiver, Server, receiving, serving

FEW = 5.0  # seconds for a task to end


@pytest.fixture
def other() -> Iterator[Receiver]:
    """Run the application at the server's own base URL."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def own() -> Iterator[Receiver]:
    """Run the application of the tasks."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, other: Receiver) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("base-urls") / "data"
    with serving(folder, "--base-url", other.url) as server:
        yield server


@pytest.fixture
async def tasks(server: Server, own: Receiver) -> AsyncIterator[Tasks]:
    async with AsyncClient(server.url) as async_client:
        with Client(server.url) as client:
            yield Tasks(
                name="two",
                base_url=own.url,
                client=client,
                async_client=async_client,
                environ={},
            )


async def test_first_push_of_a_process_goes_to_the_application_in_the_code(
    tasks: Tasks, own: Receiver, other: Receiver
) -> None:
    @tasks.task(queue="mail")
    def send() -> None: ...

    send.push().wait(FEW)
    send.options(queue="elsewhere").push().wait(FEW)
    await (await send.options(queue="third").apush()).await_end(FEW)

    assert len(own.deliveries) == 3
    assert other.deliveries == []


async def test_queue_is_declared_once_with_all_its_settings(
    tasks: Tasks, server: Server, own: Receiver
) -> None:
    tasks.queue("mail", concurrency=2)

    @tasks.task(queue="mail")
    def send() -> None: ...

    send.push().wait(FEW)
    client = tasks.client()
    client.edit_queue("two.mail", concurrency=7)
    send.push().wait(FEW)

    queue = client.queue("two.mail")
    assert (queue.base_url, queue.concurrency) == (own.url, 7)


async def test_push_fails_with_its_task_while_its_queue_cannot_be_declared(own: Receiver) -> None:
    away = "http://127.0.0.1:9"
    async with AsyncClient(away) as async_client:
        tasks = Tasks(base_url=own.url, client=Client(away), async_client=async_client, environ={})

        @tasks.task
        def send() -> None: ...

        with pytest.raises(PushFailed) as caught:
            send.push()
        with pytest.raises(PushFailed) as awaited:
            await send.apush()

    assert {caught.value.task.url, awaited.value.task.url} == {f"/_poussetaches/{send.name}"}
