"""A thread that pushes tasks continuously."""

from __future__ import annotations

import base64
import http.client
import json
import threading

from tests.acceptance.harness import Server


class Pusher(threading.Thread):
    """Pushes tasks until it is stopped, and records acknowledged ones."""

    def __init__(self, server: Server, target: str, name: str) -> None:
        super().__init__()
        self._server = server
        self._target = target
        self._name = name
        self._stopped = threading.Event()
        self.acknowledged: list[str] = []

    def run(self) -> None:
        """Push until stopped; a push without an answer is not counted."""
        number = 0
        while not self._stopped.is_set():
            number += 1
            payload = f"{self._name}-{number}".encode()
            push = {"url": self._target, "payload": base64.b64encode(payload).decode()}
            connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=10)
            try:
                connection.request("POST", "/", json.dumps(push))
                if connection.getresponse().status == 201:
                    self.acknowledged.append(payload.decode())
            except (OSError, http.client.HTTPException):
                self._stopped.wait(0.01)
            finally:
                connection.close()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self.join()
