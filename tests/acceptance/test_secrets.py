"""No secret is in the output of our processes."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    PATIENCE,
    Answer,
    Delivery,
    Receiver,
    Reply,
    Server,
    ended,
    free_port,
    receiving,
    serving,
    wait_until,
)
from tests.acceptance.warm_start import PROGRAM
from tests.integration.v1 import Client

API_TOKEN = "apitoken-5f0c2b1e"
READ_TOKEN = "readtoken-77d1a90c"
AUTH_KEY = "authkey-c41e8a3d"
SIGNING = ["signingsecret-new-e07b", "signingsecret-old-19aa"]
ALERT_WORDS = ["alertuser-b2", "alertpass-4d", "alertpath-93fe"]
# Of tasks: stored and sent, but never shown.
AUTHORIZATION = "taskauthorization-d81f"
COOKIE = "taskcookie-3c6b"
OWN_HEADER = "taskownheader-8e52"

OF_THE_SERVER = [API_TOKEN, READ_TOKEN, AUTH_KEY, *SIGNING, *ALERT_WORDS]
WRONG_TOKEN = "wrongtoken-0b4d"
NEVER_SAID = [*OF_THE_SERVER, AUTHORIZATION, COOKIE, OWN_HEADER, WRONG_TOKEN]

HEADERS = {"Authorization": f"Bearer {AUTHORIZATION}", "Cookie": COOKIE, "X-Own": OWN_HEADER}


def in_any_form(secret: str) -> list[str]:
    """Return a secret in plain text, and as base64 at all three byte alignments."""
    text = secret.encode()
    encoded = [base64.b64encode(b"x" * shift + text) for shift in range(3)]
    # Without the characters that depend on the bytes around it.
    return [secret, *(code.decode()[4 if shift else 0 : -4] for shift, code in enumerate(encoded))]


def secrets_in(text: str) -> list[str]:
    """Return the secrets in a text."""
    return [secret for secret in NEVER_SAID if any(form in text for form in in_any_form(secret))]


class Recorder:
    """Sends requests, and records all answers."""

    def __init__(self, server: Server) -> None:
        self._client = Client(server)
        self.text = ""

    def ask(
        self,
        method: str,
        path: str,
        fields: object = None,
        *,
        token: str = API_TOKEN,
        body: bytes | None = None,
    ) -> Answer:
        """Make a request."""
        if fields is not None:
            body = json.dumps(fields).encode()
        headers = {"Authorization": f"Bearer {token}"}
        answer = self._client.send(method, path, body, headers)
        self.text += f"{answer.status} {dict(answer.headers)} {answer.body.decode()}\n"
        return answer


def environment(alerts: str) -> dict[str, str]:
    alert_url = alerts.replace("http://", f"http://{ALERT_WORDS[0]}:{ALERT_WORDS[1]}@")
    return {
        "POUSSETACHES_API_TOKEN": API_TOKEN,
        "POUSSETACHES_READ_TOKEN": READ_TOKEN,
        "POUSSETACHES_AUTH_KEY": AUTH_KEY,
        "POUSSETACHES_SIGNING_SECRET": ",".join(SIGNING),
        "POUSSETACHES_ALERT_URL": f"{alert_url}/{ALERT_WORDS[2]}",
    }


def debug_page(delivery: Delivery) -> bytes:
    """Return an error page that shows the request, and the environment of the application."""
    key = delivery.headers.get("poussetaches-auth-key") or ""
    known = [API_TOKEN, READ_TOKEN, *SIGNING]
    encoded = [
        base64.b64encode(b"x" * shift + secret.encode() + b"x").decode()
        for secret in (key, *known)
        for shift in range(3)
    ]
    escaped = "".join(f"&#x{ord(character):x};" for character in key)
    return f"the key was {key}, or {escaped}\n{known}\n{encoded}".encode()


def answered(delivery: Delivery) -> Reply:
    replies: dict[str, Reply] = {
        "/fails": (500, {}, debug_page(delivery)),
        "/refuses": (400, {"Poussetaches-Retry": "no"}),
    }
    return replies.get(delivery.path, 200)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving(answered) as receiver:
        yield receiver


def use(server: Server, receiver: Receiver) -> str:
    """Send many requests that succeed and many that fail; return all answers."""
    everything = Recorder(server)
    ask = everything.ask
    push(everything, receiver)
    task = {"url": receiver.url + "/fails", "headers": HEADERS, "retry": {"max_attempts": 1}}
    failing = ask("POST", "/v1/tasks", task).json["id"]
    ask("GET", f"/v1/tasks/{failing}?wait=20")
    misuse(everything, receiver, failing)
    ask("PATCH", f"/v1/tasks/{failing}", {"headers": {"X-Own": OWN_HEADER, "X-More": "1"}})
    ask("POST", f"/v1/tasks/{failing}/requeue", {"headers": {"Cookie": COOKIE}})
    ask("GET", f"/v1/tasks/{failing}?wait=20")
    ask("PUT", "/v1/schedules/daily", {"cron": "@daily", "task": {**task, "json": 1}})
    ask("POST", "/v1/schedules/daily/run")
    ask("PATCH", "/v1/schedules/daily", {"task": {"headers": {"X-Own": OWN_HEADER}}})
    ask("POST", "/v1/tasks/requeue", {"all": True, "set": {"headers": HEADERS}})
    for path in looks():
        ask("GET", path, token=READ_TOKEN)
    return everything.text


def push(everything: Recorder, receiver: Receiver) -> None:
    """Push in every way, to working and failing receivers."""
    payload = base64.b64encode(b"{}").decode()
    everything.ask("POST", "/", {"url": receiver.url, "payload": payload})
    away = f"http://127.0.0.1:{free_port()}/"
    for url in (receiver.url, receiver.url + "/refuses", away, "http://unknown.invalid/"):
        task = {"url": url, "headers": HEADERS, "retry": {"max_attempts": 1}}
        everything.ask("POST", "/v1/tasks", task)
        everything.ask("POST", "/v1/tasks/batch", {"tasks": [task, task]})


def misuse(everything: Recorder, receiver: Receiver, task_id: str) -> None:
    """Send requests with secrets that are refused."""
    ask, url = everything.ask, receiver.url
    ask("GET", "/v1/tasks", token=WRONG_TOKEN)
    ask("POST", "/v1/tasks", {"url": url}, token=READ_TOKEN)
    for headers in (
        {"Authorization": AUTHORIZATION + "\n"},
        {"Authorization": [AUTHORIZATION]},
        {"Cookie": COOKIE + "é"},
        {"X-Own": {"a": OWN_HEADER}},
        {"Authorization": AUTHORIZATION * 2000},
    ):
        ask("POST", "/v1/tasks", {"url": url, "headers": headers})
        ask("POST", "/v1/tasks/batch", {"tasks": [{"url": url, "headers": headers}]})
        ask("PATCH", f"/v1/tasks/{task_id}", {"headers": headers})
        task = {"url": url, "headers": headers}
        ask("PUT", "/v1/schedules/bad", {"cron": "@daily", "task": task})
    broken = f'{{"url": "{url}", "headers": {{"Cookie": "{COOKIE}" "X-Own": "{OWN_HEADER}"}}}}'
    ask("POST", "/v1/tasks", body=broken.encode())
    ask("POST", "/v1/tasks", {"url": url, "headers": HEADERS, "unknown": 1})
    ask("GET", "/v1/nothing")


def looks() -> list[str]:
    return [
        *("/", "/waiting", "/success", "/dead", "/cron"),
        *("/v1/tasks", "/v1/tasks?text=task", "/v1/failures", "/v1/failures?state=failing"),
        *("/v1/queues", "/v1/queues/default", "/v1/schedules", "/v1/schedules/daily"),
        *("/v1/schedules/daily/runs", "/v1/stats", "/v1/nodes", "/metrics", "/openapi.json"),
        *("/healthz", "/readyz"),
    ]


def events_of(server: Server) -> str:
    """Return the first part of the stream of events."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        headers = {"Authorization": f"Bearer {READ_TOKEN}", "Last-Event-ID": "none"}
        connection.request("GET", "/v1/events", headers=headers)
        return connection.getresponse().read1(65_536).decode()
    finally:
        connection.close()


def arguments_of_children() -> str:
    """Return the command lines of all our descendant processes."""
    found = ""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if is_below(int(folder.name), os.getpid()):
                found += (folder / "cmdline").read_text().replace("\0", " ") + "\n"
        except OSError:
            continue  # it has ended
    return found


def is_below(process: int, ancestor: int) -> bool:
    while process > 1:
        stat = Path(f"/proc/{process}/stat").read_text()
        process = int(stat.rpartition(")")[2].split()[1])
        if process == ancestor:
            return True
    return False


def test_secret_would_be_found_in_any_form() -> None:
    credentials = base64.b64encode(f"dev:{API_TOKEN}".encode()).decode()

    assert secrets_in(f"Bearer {AUTH_KEY}, Basic {credentials}") == [API_TOKEN, AUTH_KEY]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_in_answers_or_logs(
    tmp_path: Path, receiver: Receiver, log_format: str
) -> None:
    flags = ("--log-level", "debug", "--log-format", log_format, "--secret-header", "X-Own")
    env = environment(f"http://127.0.0.1:{free_port()}")
    with serving(tmp_path / "data", *flags, env=env, program=PROGRAM) as server:
        answers = use(server, receiver)
        events = events_of(server)
        arguments = arguments_of_children()
        wait_until(lambda: server.logged("alert not delivered"), bool, "the alert")
        assert server.stop() == 0
    log = server.log.read_text()

    assert "poussetaches serve" in arguments
    assert len(log.splitlines()) > 20
    assert answers.count('"***"') > 5
    assert "the key was ***, or ***" in answers
    for text in (answers, events, arguments, log):
        assert secrets_in(text) == []


def test_secrets_of_the_server_are_not_stored(tmp_path: Path, receiver: Receiver) -> None:
    env = environment(receiver.url)
    with serving(tmp_path / "data", env=env) as server:
        use(server, receiver)
        assert server.stop() == 0

    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert AUTHORIZATION.encode() in stored  # what is to be sent must be
    assert [secret for secret in OF_THE_SERVER if secret.encode() in stored] == []


@pytest.mark.parametrize(
    "words", [("--help",), ("serve", "--help"), ("run", "--help"), ("check", "--help")]
)
def test_help_shows_no_secret(words: tuple[str, ...]) -> None:
    done = ended(*words, env=environment("http://127.0.0.1:9"))

    assert done.returncode == 0
    assert secrets_in(done.stdout + done.stderr) == []


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"POUSSETACHES_API_TOKEN": API_TOKEN + "\n"}, id="token in two lines"),
        pytest.param({"POUSSETACHES_AUTH_KEY": AUTH_KEY + "é"}, id="key that is not ASCII"),
        pytest.param({"POUSSETACHES_READ_TOKEN": READ_TOKEN}, id="read token alone"),
        pytest.param(
            {"POUSSETACHES_API_TOKEN": API_TOKEN, "POUSSETACHES_READ_TOKEN": API_TOKEN},
            id="twice the same token",
        ),
        pytest.param(
            {"POUSSETACHES_SIGNING_SECRET": f"{SIGNING[0]},short"}, id="short signing secret"
        ),
        pytest.param(
            {"POUSSETACHES_SIGNING_SECRET": f"whsec_{SIGNING[0]}!"}, id="secret that is no base64"
        ),
        pytest.param(
            {"POUSSETACHES_ALERT_URL": f"ftp://{ALERT_WORDS[0]}:{ALERT_WORDS[1]}@a/"},
            id="alerts to nowhere",
        ),
        pytest.param({"POUSSETACHES_API_TOKEN_FILE": "/nowhere"}, id="file that is not there"),
    ],
)
def test_refusal_to_start_shows_no_secret(tmp_path: Path, env: dict[str, str]) -> None:
    done = ended("serve", "--port", "0", "--data-dir", str(tmp_path / "data"), env=env)

    assert done.returncode == 2
    assert done.stderr.startswith("poussetaches: ")
    assert secrets_in(done.stdout + done.stderr) == []


def test_secrets_have_no_flag() -> None:
    for flag in ("api-token", "read-token", "auth-key", "signing-secret", "alert-url"):
        for words in ((f"--{flag}", API_TOKEN), (f"--{flag}={API_TOKEN}",)):
            done = ended("serve", *words, env={})

            assert done.returncode == 2
            assert f"--{flag}: secrets have no option" in done.stderr
            assert secrets_in(done.stdout + done.stderr) == []


def test_check_shows_no_secret(tmp_path: Path, receiver: Receiver) -> None:
    with serving(tmp_path / "data", env=environment(receiver.url)) as server:
        said = ""
        for token in (API_TOKEN, READ_TOKEN, WRONG_TOKEN):
            done = ended(
                "check",
                env={"POUSSETACHES_URL": server.url, "POUSSETACHES_API_TOKEN": token},
            )
            said += done.stdout + done.stderr

    assert len(said.splitlines()) >= 3
    assert secrets_in(said) == []


def test_run_passes_the_key_only_in_the_environment(tmp_path: Path) -> None:
    """The application's command line, which all users can list, has no secret."""
    folder, port = tmp_path / "application", free_port()
    folder.mkdir()
    script = Path(__file__).with_name("application.py")
    clean = {name: value for name, value in os.environ.items() if "POUSSETACHES" not in name}
    log = tmp_path / "log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "poussetaches", "run", "--port", str(free_port()),
             "--data-dir", str(tmp_path / "data"), "--log-level", "debug",
             "--base-url", f"http://127.0.0.1:{port}",
             "--", sys.executable, str(script), str(port), str(folder)],
            env={**clean, **environment("http://127.0.0.1:9")},
            stdout=output,
            stderr=output,
        )  # fmt: skip
    try:
        events = folder / "events"
        wait_until(events.exists, bool, "the application to start")
        started = json.loads(
            wait_until(
                events.read_text, lambda text: "\n" in text, "its environment"
            ).splitlines()[0]
        )
        arguments = arguments_of_children()
    finally:
        running.terminate()
        running.wait(PATIENCE)

    assert AUTH_KEY in json.dumps(started)
    assert str(script) in arguments
    assert secrets_in(arguments) == []
    assert secrets_in(log.read_text()) == []
