"""Pushes a probe to the server, waits for its end, and reports the result."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import NamedTuple

from poussetaches.cli.check_findings import Finding, attempt_finding, declaration_finding
from poussetaches.cli.shared_options import ServerAddress
from poussetaches.client import Client
from poussetaches.client.errors import (
    ClientError,
    InvalidRequest,
    NoAnswer,
    NotUnderstood,
    PushFailed,
    Refused,
    Unauthorized,
)
from poussetaches.client.results import TaskInfo
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.probe_answer import DeclarationStatus, declaration_in, probe_answer_in
from poussetaches.core.target import absolute_url, without_credentials

ANSWER_LIMIT = 10.0  # seconds for the application to answer
START_LIMIT = 5.0  # seconds for the server to start the attempt
DECLARATION_LIMIT = 5.0  # seconds for the application to declare queues and schedules
POLL = 0.5  # seconds between two requests, unless the probe ends
HELD = {"origin_held"}
PAUSED = {"paused", "server_paused"}

NO_BASE_URL = (
    "the server at {server} has no URL of the application: start it with --base-url (or"
    " POUSSETACHES_BASE_URL), or set the base_url of the queue {queue}"
)
TARGET_NOT_ALLOWED = (
    "the server at {server} may not send to the application ({reason}): add it to the server's"
    " --allow-target"
)
UNAUTHORIZED = (
    "the server at {server} requires its token: set POUSSETACHES_API_TOKEN to the server's"
)
READ_ONLY = (
    "POUSSETACHES_API_TOKEN has read-only access to the server at {server}: set it to the"
    " server's api_token, not its read_token"
)
NO_ANSWER = (
    "{reason}; start the server, or give its address with --url, --data-dir or POUSSETACHES_URL"
    " (this one is from {source})"
)
OTHER_PROGRAM = "{reason}; this URL is from {source}"


class CheckFailed(PousseTachesError):
    """The probe did not arrive."""


class Arrival(NamedTuple):
    """A probe that arrived: its URL, its duration in seconds, and the receiver's warnings."""

    target: str
    duration: float
    warnings: tuple[str, ...]


def send_probe(server: ServerAddress, *, queue: str, path: str) -> Arrival:
    """Send a probe to the receiver.

    Raises:
        CheckFailed: it did not arrive, or the application's queues and schedules are not all
            declared; one line names the problem.
        SettingsError: the server's address is invalid.
    """
    probe_url = f"{path.rstrip('/')}/_check"
    with server.client() as client:
        try:
            client.stats(minutes=1)  # A push would be repeated while no server answers.
            return _send(client, server, queue=queue, probe_url=probe_url)
        except ClientError as exc:
            raise CheckFailed(_call_error(exc, server, queue)) from exc


def _send(client: Client, server: ServerAddress, *, queue: str, probe_url: str) -> Arrival:
    begun = time.monotonic()
    while True:
        task, target = _delivered(client, queue=queue, probe_url=probe_url)
        finding, error = _task_finding(task)
        if finding is not None:
            status = task.attempts[-1].status if task.attempts else None
            text = finding.format(status=status, error=error)
            raise CheckFailed(_message(server, target, text))
        attempt = task.attempts[-1]
        declaration = declaration_in(attempt.response_body)
        if declaration.state != "pending" or time.monotonic() > begun + DECLARATION_LIMIT:
            break
        # The application begins to declare at its first request, which was the probe.
        time.sleep(POLL)
    _check_declaration(server, declaration, target)
    answer = probe_answer_in(attempt.response_body)
    return Arrival(target, attempt.duration, answer.warnings if answer else ())


def _delivered(client: Client, *, queue: str, probe_url: str) -> tuple[TaskInfo, str]:
    """Push one probe before all other tasks, and delete it; return its end and its target."""
    pushed = client.push(
        probe_url,
        queue=queue,
        priority=100,
        timeout=ANSWER_LIMIT,
        retry={"max_attempts": 1},
        on_success="",
        on_dead="",
    )
    try:
        base_url = client.queue(queue).base_url
        target = absolute_url(base_url, probe_url) if base_url else probe_url
        return _ended(client, pushed.id), target
    finally:
        client.delete(pushed.id)


def _ended(client: Client, id: str) -> TaskInfo:
    """Return the probe once it has ended, or once the reason for its wait is known."""
    begun = time.monotonic()
    while True:
        task = client.wait(id, timeout=POLL)
        limit = START_LIMIT + (ANSWER_LIMIT if task.state == "running" else 0)
        is_stopped = _wait_reasons(task) & (HELD | PAUSED)
        if task.has_ended or is_stopped or time.monotonic() > begun + limit:
            return task


def _wait_reasons(task: TaskInfo) -> set[str]:
    return {wait.reason for wait in task.waiting_for}


def _task_finding(task: TaskInfo) -> tuple[Finding | None, str]:
    """Return the problem of a probe, None if it arrived, and the error to show."""
    if task.attempts:
        attempt = task.attempts[-1]
        return attempt_finding(attempt), attempt.error or "no location"
    reasons = _wait_reasons(task)
    details = "; ".join(wait.detail for wait in task.waiting_for)
    error = task.last_error or details or "no reason given"
    if reasons & HELD:
        return Finding.NOT_CONNECTED, error
    return (Finding.PAUSED if reasons & PAUSED else Finding.NOT_STARTED), error


def _check_declaration(server: ServerAddress, status: DeclarationStatus, target: str) -> None:
    """Check that the server accepted the application's queues and schedules.

    Raises:
        CheckFailed: it refused some, or the application could not declare them.
    """
    finding = declaration_finding(status)
    if finding is not None:
        error = status.reason or "; ".join(map(str, status.refused)) or "no answer yet"
        raise CheckFailed(_message(server, target, finding.format(error=error)))


def _message(server: ServerAddress, target: str, finding: str) -> str:
    return f"{without_credentials(target)}: {finding}; the probe was pushed to {server}"


def _call_error(exc: ClientError, server: ServerAddress, queue: str) -> str:
    """Return the message for a failed call of the server."""
    if isinstance(exc, PushFailed) and isinstance(exc.__cause__, ClientError):
        exc = exc.__cause__
    template = "the server at {server} refused the probe: {reason}"
    reason = str(exc)
    if isinstance(exc, NoAnswer):
        template, reason = NO_ANSWER, exc.reason
    elif isinstance(exc, NotUnderstood):
        template = OTHER_PROGRAM
    elif isinstance(exc, Unauthorized):
        is_read_only = exc.status == HTTPStatus.FORBIDDEN
        template = READ_ONLY if is_read_only else UNAUTHORIZED
    elif isinstance(exc, InvalidRequest) and "url" in {error.field for error in exc.errors}:
        is_forbidden = exc.status == HTTPStatus.FORBIDDEN
        template = TARGET_NOT_ALLOWED if is_forbidden else NO_BASE_URL
        reason = exc.detail
    elif isinstance(exc, Refused):
        reason = f"{exc.status} {exc.detail or exc.title}"
    return template.format(server=server, source=server.source, queue=queue, reason=reason)
