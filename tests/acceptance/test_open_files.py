"""Servers that may open few files: what they do fits into the limit, and no attempt is lost."""

from __future__ import annotations

import http.client
import json
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.harness import (
    PATIENCE,
    Delivery,
    Receiver,
    Server,
    clean_environment,
    free_port,
    receiving,
    serving,
    wait_until,
)
from tests.hostile.wire import connect
from tests.integration.v1 import Client

TASKS = 100
IN_FLIGHT = "10000"


@contextmanager
def holding() -> Iterator[tuple[Receiver, threading.Event]]:
    """Run a receiver that does not answer before it is told to."""
    release = threading.Event()

    def answer(_: Delivery) -> int:
        release.wait(PATIENCE)
        return 200

    with receiving(answer) as receiver:
        try:
            yield receiver, release
        finally:
            release.set()


class KeptClient:
    """Speaks to a server on one connection, which needs no other descriptor of the server's."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)

    def ask(self, method: str, path: str, **fields: object) -> Any:
        """Make a request, and return what the answer says."""
        self._connection.request(method, path, json.dumps(fields) if fields else None)
        return json.loads(self._connection.getresponse().read())

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def open_files(server: Server) -> int:
    """Return how many descriptors a server has."""
    return sum(1 for _ in Path(f"/proc/{server.pid}/fd").iterdir())


def tasks_to(receiver: Receiver) -> list[dict[str, object]]:
    return [{"url": f"{receiver.url}/{number}", "queue": "many"} for number in range(TASKS)]


def counts(client: Client) -> dict[str, int]:
    found: dict[str, int] = client.get("/v1/queues/many").json["counts"]
    return found


def attempts_of_all(receiver: Receiver) -> set[str]:
    return {delivery.headers["poussetaches-attempt"] for delivery in receiver.deliveries}


def test_attempts_in_flight_are_lowered_to_what_the_limit_leaves(tmp_path: Path) -> None:
    with (
        holding() as (receiver, release),
        serving(tmp_path / "data", "--max-in-flight", IN_FLIGHT, max_files=160) as server,
    ):
        client = Client(server)
        client.put("/v1/queues/many", concurrency=10_000)
        (line,) = server.logged("the limit of open files is low limit=160")
        most = int(line.partition('max_in_flight="')[2].partition(" instead of 10000")[0])
        assert 0 < most < TASKS

        client.post("/v1/tasks/batch", tasks=tasks_to(receiver))
        wait_until(lambda: len(receiver.deliveries), lambda n: n >= most, "attempts to start")
        assert client.get("/v1/stats").json["in_flight"] == most
        assert open_files(server) <= 160
        release.set()
        wait_until(lambda: counts(client), lambda n: n["succeeded"] == TASKS, "all to succeed")

        assert attempts_of_all(receiver) == {"1"}
        assert not server.logged("Too many open files")


def test_idle_connections_leave_the_api_and_deliveries_as_they_were(tmp_path: Path) -> None:
    with (
        receiving() as receiver,
        serving(tmp_path / "data", max_files=64) as server,
        ExitStack() as stack,
    ):
        client = Client(server)
        for _ in range(200):
            stack.enter_context(connect(server))

        for task in tasks_to(receiver):
            client.push(**task)
        wait_until(lambda: counts(client), lambda n: n["succeeded"] == TASKS, "all to succeed")

        assert attempts_of_all(receiver) == {"1"}


def test_want_of_descriptors_costs_no_attempt_and_is_over_with_its_cause(tmp_path: Path) -> None:
    with receiving() as receiver, serving(tmp_path / "data") as server, ExitStack() as stack:
        client = KeptClient(server)
        stack.callback(client.close)
        client.ask("POST", "/v1/pause")
        client.ask("PUT", "/v1/queues/many", concurrency=TASKS)
        client.ask("POST", "/v1/tasks/batch", tasks=tasks_to(receiver))
        before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (0, before[1]))

        client.ask("POST", "/v1/resume")
        health = wait_until(
            lambda: client.ask("GET", "/healthz"), lambda found: "shortage" in found, "the want"
        )
        (waiting,) = client.ask("GET", "/v1/tasks?queue=many&limit=1")["tasks"]
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)

        assert health["status"] == "ok"
        assert "Too many open files" in health["shortage"]
        assert waiting["attempt_count"] == 0
        wait_until(
            lambda: client.ask("GET", "/v1/queues/many")["counts"],
            lambda found: found["succeeded"] == TASKS,
            "all to succeed",
        )
        assert attempts_of_all(receiver) == {"1"}
        assert server.logged("out of resources, attempts are put back")


def test_limit_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    command = f"ulimit -n 40; exec {sys.executable} -m poussetaches serve --port {free_port()}"

    found = subprocess.run(
        ["/bin/sh", "-c", f"{command} --data-dir {tmp_path}/data"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert found.returncode == 1
    assert found.stderr.startswith("poussetaches: the limit of open files is 40, and at least ")
    assert len(found.stderr.splitlines()) == 1
