"""A real server whose application is down."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.acceptance.harness import free_port, receiving, serving, wait_until


def test_application_that_is_down_charges_no_attempt(tmp_path: Path) -> None:
    port = free_port()

    with serving(tmp_path / "data") as server:
        pushed = {server.push(f"http://127.0.0.1:{port}/task") for _ in range(20)}
        waiting = wait_until(
            lambda: server.listing("waiting"),
            lambda tasks: all(task["last_error_status_code"] == -1 for task in tasks),
            "every task to say why it waits",
        )
        assert {task["id"] for task in waiting} == pushed
        assert [task["tries"] for task in waiting] == [0] * 20
        assert b"cannot connect" in base64.b64decode(waiting[-1]["last_error_body"])

        with receiving(port=port) as receiver:
            wait_until(lambda: server.ids("success"), lambda ids: ids == pushed, "all to succeed")

            assert {task["tries"] for task in server.listing("success")} == {1}
            assert {found.task_id for found in receiver.deliveries} == pushed
            assert len(receiver.deliveries) == 20
