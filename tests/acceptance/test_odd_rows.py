"""A server that starts with odd URLs of an earlier version, or with an unchangeable task."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from tests.acceptance.harness import Server, ended, receiving, serving, wait_until
from tests.store.sqlite_files import raw

FLAGS = ("--max-attempts", "1")
REFUSES = """
CREATE TRIGGER refuse_update BEFORE UPDATE ON tasks WHEN OLD.url LIKE '%/refused'
BEGIN SELECT RAISE(ABORT, 'refused'); END;
"""


def push(server: Server, url: str, **fields: object) -> str:
    body = json.dumps({"url": url, **fields}).encode()
    answer = server.request("POST", "/v1/tasks", body)
    assert answer.status == 201, answer
    task_id: str = answer.json["id"]
    return task_id


def change(server: Server, statement: str) -> None:
    with closing(raw(server.data_dir / "tasks.db")) as database:
        database.executescript(statement)


def end_of(server: Server, task_id: str) -> tuple[str, str | None]:
    def task() -> tuple[str, str | None]:
        found = server.request("GET", f"/v1/tasks/{task_id}").json
        return found["state"], found["reason"]

    return wait_until(task, lambda found: found[0] in ("succeeded", "dead"), "the task to end")


def test_stored_tasks_with_odd_urls_end_like_others(tmp_path: Path) -> None:
    with (
        receiving(lambda delivery: 500 if "fail" in delivery.path else 200) as receiver,
        serving(tmp_path / "data", "--start-paused") as server,
    ):
        url = receiver.url.replace("http://", "http://user:pa%5Bss@")
        ids = {name: push(server, f"{url}/{name}") for name in ("well", "fail", "cancelled")}
        expiring = push(server, f"{url}/expiring", delay=3600)
        server.stop()
        change(server, "UPDATE tasks SET url = replace(url, '%5B', '[')")
        change(server, "UPDATE tasks SET cancelled = 1 WHERE url LIKE '%/cancelled'")
        change(server, "UPDATE tasks SET expires_at = 1 WHERE url LIKE '%/expiring'")
        verified = ended("verify", tmp_path / "data")
        with serving(tmp_path / "data", *FLAGS) as again:
            again.request("POST", "/v1/resume")
            ends = {name: end_of(again, task_id) for name, task_id in ids.items()}
            ends["expiring"] = end_of(again, expiring)
            health = again.request("GET", "/healthz").json
            log = again.log.read_text()

    assert verified.returncode == 0, verified.stdout
    assert ends == {
        "well": ("succeeded", None),
        "fail": ("dead", "exhausted"),
        "cancelled": ("dead", "cancelled"),
        "expiring": ("dead", "expired"),
    }
    assert health == {"status": "ok"}
    assert "pa[ss" not in log
    assert "Traceback" not in log


def test_server_starts_with_a_task_that_cannot_be_changed(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--start-paused") as server, receiving() as receiver:
        push(server, f"{receiver.url}/refused")
        other = push(server, f"{receiver.url}/other")
        server.stop()
        change(server, "UPDATE tasks SET cancelled = 1 WHERE url LIKE '%/refused'")
        change(server, REFUSES)
        with serving(tmp_path / "data") as again:
            again.request("POST", "/v1/resume")
            end = end_of(again, other)
            health = again.request("GET", "/healthz").json
            ready = again.request("GET", "/readyz")

    assert end == ("succeeded", None)
    assert health == {"status": "ok", "unreadable_rows": 1, "internal_errors": 1}
    assert ready.status == 503
    assert [delivery.path for delivery in receiver.deliveries] == ["/other"]
    [line] = again.logged("row could not be processed")
    assert 'fate="set aside"' in line
