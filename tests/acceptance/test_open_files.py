"""Servers stay within a low limit of open files, and charge no attempt for it."""

from __future__ import annotations

import http.client
import json
import resource
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.acceptance.harness import (
    PATIENCE,
    Receiver,
    Server,
    clean_environment,
    free_port,
    holding,
    receiving,
    serving,
    wait_until,
)
from tests.hostile.wire import connect
from tests.integration.v1 import Client

TASKS = 100
IN_FLIGHT = "10000"


class KeptClient:
    """A client that keeps one connection, and so needs one descriptor of the server."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)

    def ask(self, method: str, path: str, **fields: object) -> Any:
        """Make a request and return the JSON of its answer."""
        self._connection.request(method, path, json.dumps(fields) if fields else None)
        return json.loads(self._connection.getresponse().read())

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


def tasks_to(receiver: Receiver) -> list[dict[str, object]]:
    return [{"url": f"{receiver.url}/held/{number}", "queue": "many"} for number in range(TASKS)]


def counts(client: Client) -> dict[str, int]:
    found: dict[str, int] = client.get("/v1/queues/many").json["counts"]
    return found


def attempts_of_all(receiver: Receiver) -> set[str]:
    return {delivery.headers["poussetaches-attempt"] for delivery in receiver.deliveries}


def test_attempts_in_flight_are_reduced_to_fit_the_limit(tmp_path: Path) -> None:
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
        assert server.file_count() <= 160
        release.set()
        wait_until(lambda: counts(client), lambda n: n["succeeded"] == TASKS, "all to succeed")

        assert attempts_of_all(receiver) == {"1"}
        assert not server.logged("Too many open files")


def test_idle_connections_do_not_affect_the_api_or_deliveries(tmp_path: Path) -> None:
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


def test_shortage_of_descriptors_charges_no_attempt_and_ends_with_its_cause(
    tmp_path: Path,
) -> None:
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
            lambda: client.ask("GET", "/healthz"),
            lambda found: "shortage" in found,
            "the shortage",
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


def test_limit_too_low_to_start_is_refused(tmp_path: Path) -> None:
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
