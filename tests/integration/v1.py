"""A client of /v1 for tests, with JSON bodies and problems."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

from tests.acceptance.harness import PATIENCE, Answer, Server

URL = "http://app.test/run"


class Client:
    """Sends requests to a running server, each on its own connection."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make a request and return its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            answered = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, answered, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """Send a GET request."""
        return self.send("GET", path)

    def post(self, path: str, **fields: object) -> Answer:
        """Send an object; without fields, an empty body."""
        return self.send("POST", path, json.dumps(fields).encode() if fields else None)

    def put(self, path: str, **fields: object) -> Answer:
        """Put an object."""
        return self.send("PUT", path, json.dumps(fields).encode())

    def patch(self, path: str, **fields: object) -> Answer:
        """Send a merge patch."""
        return self.send("PATCH", path, json.dumps(fields).encode())

    def push(self, **fields: object) -> str:
        """Push a task and return its id."""
        answer = self.post("/v1/tasks", **{"url": URL, **fields})
        assert answer.status == 201, answer
        task_id: str = answer.json["id"]
        return task_id

    def task(self, task_id: str, query: str = "") -> Any:
        """Return a task as it is shown."""
        answer = self.get(f"/v1/tasks/{task_id}{query}")
        assert answer.status == 200, answer
        return answer.json

    def cancelled(self, **fields: object) -> str:
        """Push a task, cancel it, and return its id: the shortest way to a dead one."""
        task_id = self.push(**fields)
        assert self.post(f"/v1/tasks/{task_id}/cancel").status == 200
        return task_id

    def ids(self, query: str) -> list[str]:
        """Return the ids of all tasks that a query lists, page by page."""
        found: list[str] = []
        cursor = ""
        while True:
            answer = self.get(f"/v1/tasks?{query}{cursor}")
            assert answer.status == 200, answer
            found += [task["id"] for task in answer.json["tasks"]]
            if answer.json["next_cursor"] is None:
                return found
            cursor = f"&cursor={answer.json['next_cursor']}"


def problem(answer: Answer) -> tuple[int, str, list[str]]:
    """Return the status, the code and the fields of a problem document."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json
    assert document["status"] == answer.status
    assert document["detail"]
    code = document["type"].removeprefix("urn:poussetaches:problem:")
    return answer.status, code, [error["field"] for error in document.get("errors", [])]
