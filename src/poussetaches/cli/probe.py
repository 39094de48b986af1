"""Pushes a probe to a server, watches what becomes of it, and says what it met."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from poussetaches.cli.findings import FINDINGS, finding_of, finding_of_declaration
from poussetaches.cli.server_calls import Answer, ServerCalls
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.probe_answer import DeclarationStatus, declaration_in
from poussetaches.core.target import absolute_url, without_credentials

ANSWER_LIMIT = 10.0  # seconds for the application to answer
START_LIMIT = 5.0  # seconds for the server to send it
DECLARATION_LIMIT = 5.0  # seconds for the application to declare queues and schedules
LOOK = 0.5  # seconds between two looks, unless the probe ends
ENDED = ("succeeded", "dead")
HELD = {"origin_held"}
PAUSED = {"paused", "server_paused"}

AWAY = (
    "no server answers at {server}: {error}; start one, or give its address with --url,"
    " --data-dir or POUSSETACHES_URL"
)
# What the server says to the push of the probe, by its status.
PUSH_REFUSED = {
    HTTPStatus.UNAUTHORIZED: "the server at {server} asks for its token: give"
    " POUSSETACHES_API_TOKEN, the same as the server's",
    HTTPStatus.FORBIDDEN: "POUSSETACHES_API_TOKEN is one that may only look: give the server's"
    " api_token, not its read_token",
    HTTPStatus.NOT_FOUND: "what answers at {server} is no server of poussetaches: correct"
    " --url, or POUSSETACHES_URL",
}
NO_BASE_URL = (
    "the server at {server} does not know where the application is: start it with --base-url (or"
    " POUSSETACHES_BASE_URL), or give the queue {queue} a base_url"
)
TARGET_NOT_ALLOWED = (
    "the server at {server} may not send to the application ({detail}): name it in the server's"
    " --allow-target"
)
OTHERWISE = "the server at {server} did not take the probe ({status}): {detail}"


class CheckFailed(PousseTachesError):
    """The probe did not arrive."""


class Server:
    """The server that is asked; as text, its URL and the source of the URL."""

    def __init__(self, url: str, source: str, token: str | None) -> None:
        self.calls = ServerCalls(url, token)
        self._shown = f"{without_credentials(url)} ({source})"

    def __str__(self) -> str:
        return self._shown


def probe(server: Server, *, queue: str, path: str) -> tuple[str, float]:
    """Send a probe to the receiver; return where it arrived, and in how many seconds.

    Raises:
        CheckFailed: it did not arrive, or the application's queues and schedules are not all
            declared; one line that says why.
        BadAddress: the server's address cannot be one.
    """
    probe_url = f"{path.rstrip('/')}/_check"
    begun = time.monotonic()
    try:
        while True:
            task, target = sent(server, queue=queue, probe_url=probe_url)
            judge(server, task, target)
            attempt = task["attempts"][-1]
            status = declaration_in(attempt["response_body"])
            if status.state != "pending" or time.monotonic() > begun + DECLARATION_LIMIT:
                break
            time.sleep(LOOK)  # the probe was the first request, at which it begins to declare
    except OSError as exc:
        raise CheckFailed(AWAY.format(server=server, error=exc.strerror or exc)) from exc
    judge_declaration(server, status, target)
    return target, float(attempt["duration"])


def sent(server: Server, *, queue: str, probe_url: str) -> tuple[dict[str, Any], str]:
    """Send one probe; return its task and its target."""
    task_id = push(server, queue=queue, probe_url=probe_url)
    try:
        return watched(server.calls, task_id), target_of(server.calls, queue, probe_url)
    finally:
        server.calls.call("DELETE", f"/v1/tasks/{task_id}")


def push(server: Server, *, queue: str, probe_url: str) -> str:
    """Push the probe, before all other tasks; return its id."""
    probe = {
        "url": probe_url,
        "queue": queue,
        "priority": 100,
        "timeout": ANSWER_LIMIT,
        "retry": {"max_attempts": 1},
        "on_success": "",
        "on_dead": "",
    }
    answer = server.calls.call("POST", "/v1/tasks", probe)
    if answer.status == HTTPStatus.CREATED and "id" in answer.json:
        return str(answer.json["id"])
    raise CheckFailed(
        push_refused(answer).format(
            server=server,
            queue=queue,
            status=answer.status,
            detail=answer.json.get("detail", "no reason"),
        )
    )


def push_refused(answer: Answer) -> str:
    """Return in which words to say that the push was refused."""
    fields = [error["field"] for error in answer.json.get("errors", [])]
    if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY and "url" in fields:
        return NO_BASE_URL
    if answer.status == HTTPStatus.FORBIDDEN and "url" in fields:
        return TARGET_NOT_ALLOWED
    status = HTTPStatus.NOT_FOUND if not answer.json else answer.status
    return PUSH_REFUSED.get(HTTPStatus(status), OTHERWISE)


def watched(server: ServerCalls, task_id: str) -> dict[str, Any]:
    """Return the probe once it has ended, or once it shows what keeps it."""
    begun = time.monotonic()
    while True:
        task = server.call("GET", f"/v1/tasks/{task_id}?wait={LOOK}").json
        is_running = task.get("state") == "running"
        limit = START_LIMIT + ANSWER_LIMIT if is_running else START_LIMIT
        has_ended = task.get("state") in ENDED
        if has_ended or reasons(task) & (HELD | PAUSED) or time.monotonic() > begun + limit:
            return task


def reasons(task: dict[str, Any]) -> set[str]:
    """Return what a waiting task waits for."""
    return {wait["reason"] for wait in task.get("waiting_for") or ()}


def target_of(server: ServerCalls, queue: str, probe_url: str) -> str:
    """Return where the probe went."""
    base_url = server.call("GET", f"/v1/queues/{quote(queue, safe='')}").json.get("base_url")
    return absolute_url(str(base_url), probe_url) if base_url else probe_url


def judge(server: Server, task: dict[str, Any], target: str) -> None:
    """Say what kept the probe, if anything did.

    Raises:
        CheckFailed: something did.
    """
    fields: dict[str, object]
    if task.get("attempts"):
        attempt = task["attempts"][-1]
        name = finding_of(attempt)
        error = attempt["error"] or "with no location"
        fields = {"status": attempt["status"], "error": error}
    else:
        waits = reasons(task)
        name = "refused" if waits & HELD else "paused" if waits & PAUSED else "not-started"
        fields = {"error": task.get("last_error") or ", ".join(sorted(waits)) or "no reason given"}
    if name is None:
        return
    raise CheckFailed(message(server, target, FINDINGS[name].format(**fields)))


def judge_declaration(server: Server, status: DeclarationStatus, target: str) -> None:
    """Check that the server accepted the application's queues and schedules.

    Raises:
        CheckFailed: it refused some, or the application could not declare them.
    """
    name = finding_of_declaration(status)
    if name is not None:
        error = status.reason or "; ".join(map(str, status.refused)) or "no answer yet"
        raise CheckFailed(message(server, target, FINDINGS[name].format(error=error)))


def message(server: Server, target: str, finding: str) -> str:
    return f"{without_credentials(target)}: {finding}; the probe was pushed to {server}"
