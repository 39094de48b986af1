"""``poussetaches check``: a probe through a real server, and the command's report."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from poussetaches.cli.check import other_folder_warning
from poussetaches.cli.receiver_process import ReceiverProcess
from poussetaches.cli.shared_options import server_address
from tests.acceptance.harness import (
    KEY,
    PATIENCE,
    Delivery,
    Receiver,
    Reply,
    Server,
    ended,
    free_port,
    receiving,
    serving,
)

KEY_REFUSED = b"the key is missing or wrong\npoussetaches-refusal: wrong-key\n"
NO_KEY = b"no key is configured\npoussetaches-refusal: no-key-configured\n"
NO_SIGNATURE = b"unsigned\npoussetaches-refusal: wrong-signature\n"
INVALID = b"invalid settings\npoussetaches-refusal: invalid-settings\n"


def check(url: str, *flags: str, cwd: Path | None = None, **environ: str) -> tuple[int, str]:
    """Run the command; return its status and its one line of output."""
    done = ended("check", *flags, env={"POUSSETACHES_URL": url, **environ}, cwd=cwd)
    said = done.stderr if done.returncode else done.stdout
    assert len(said.splitlines()) == 1, done
    return done.returncode, said


class Changeable:
    """Gives the answer that was set last."""

    def __init__(self) -> None:
        self.reply: Reply = 200
        self.deliveries: list[Delivery] = []

    def __call__(self, delivery: Delivery) -> Reply:
        self.deliveries.append(delivery)
        return self.reply


@pytest.fixture(scope="module")
def answer() -> Changeable:
    return Changeable()


@pytest.fixture(scope="module")
def receiver(answer: Changeable) -> Iterator[Receiver]:
    with receiving(answer) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    flags = ("--base-url", receiver.url)
    with serving(tmp_path_factory.mktemp("check") / "data", *flags) as server:
        yield server


def test_probe_that_arrives_is_a_success_and_leaves_no_task(
    server: Server, receiver: Receiver, answer: Changeable
) -> None:
    answer.reply = (200, {}, b'{"poussetaches": "1.0.0", "tasks": 3}')

    status, said = check(server.url)

    assert status == 0
    assert said.startswith(f"{receiver.url}/_poussetaches/_check answered in 0.")
    assert said.endswith(
        f" s: the server at {server.url} (POUSSETACHES_URL) delivers tasks"
        f" to {psutil.Process().name()} (process {os.getpid()}) in {Path.cwd()}\n"
    )
    assert answer.deliveries[-1].headers["poussetaches-auth-key"] == KEY
    assert server.request("GET", "/v1/tasks").json["tasks"] == []


def test_warnings_of_the_receiver_are_shown(server: Server, answer: Changeable) -> None:
    answer.reply = (200, {}, b'{"poussetaches": "2", "tasks": 1, "warnings": ["a", "b"]}')

    checked = ended("check", env={"POUSSETACHES_URL": server.url})

    assert (checked.returncode, checked.stderr) == (0, "warning: a\nwarning: b\n")


def test_path_and_queue_of_the_probe_can_be_chosen(server: Server, answer: Changeable) -> None:
    answer.reply = (200, {}, b'{"poussetaches": "1.0.0", "tasks": 3}')

    status, _ = check(server.url, "--path", "/hidden/", "--queue", "mail")

    assert status == 0
    assert answer.deliveries[-1].path == "/hidden/_check"
    assert answer.deliveries[-1].headers["poussetaches-queue"] == "mail"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        pytest.param((200, {}, b"<html>"), "not from the task receiver", id="catch-all"),
        pytest.param(204, "returned 204, but not from the task receiver", id="other-route"),
        pytest.param((302, {"Location": "/login"}), "a redirect to /login", id="login-page"),
        pytest.param(
            (301, {"Location": "https://shop/"}), "a redirect to https://shop/", id="https"
        ),
        pytest.param((400, {}, b"Bad Request"), "ALLOWED_HOSTS", id="host"),
        pytest.param((401, {}, KEY_REFUSED), "refused the key: ", id="key"),
        pytest.param((401, {}, NO_SIGNATURE), "SIGNING_SECRET", id="signature"),
        pytest.param((401, {}, b"Who are you?"), "a login or a CSRF check", id="login"),
        pytest.param(
            (403, {}, b"CSRF verification failed."), "a login or a CSRF check", id="csrf"
        ),
        pytest.param(404, "no task receiver at this path", id="not-mounted"),
        pytest.param(405, "no task receiver at this path", id="other-method"),
        pytest.param(418, "returned 418, which the task receiver never does", id="unknown"),
        pytest.param(500, "returned 500: the application", id="failed"),
        pytest.param((503, {}, NO_KEY), "the application has no key", id="keyless"),
        pytest.param((503, {}, INVALID), "settings are invalid", id="settings"),
        pytest.param(503, "returned 503: the application, or a proxy", id="away"),
    ],
)
def test_cause_of_a_refused_probe_is_named(
    server: Server, answer: Changeable, reply: Reply, said: str
) -> None:
    answer.reply = reply

    status, line = check(server.url)

    assert (status, said in line) == (1, True), line
    assert line.endswith(f"; the probe was pushed to {server.url} (POUSSETACHES_URL)\n")
    assert server.request("GET", "/v1/tasks").json["tasks"] == []


DECLARED = b'{"poussetaches": "1.1.0", "tasks": 3, "declaration": %s}'


@pytest.mark.parametrize(
    ("declaration", "said"),
    [
        pytest.param(
            b'{"state": "done", "refused": [{"kind": "queue", "name": "mail", "reason": "no"}]}',
            "the server refused some of the application's queues and schedules (queue 'mail': no)",
            id="refused",
        ),
        pytest.param(
            b'{"state": "failing", "reason": "401 unauthorized"}',
            "the application cannot declare its queues and schedules (401 unauthorized): check",
            id="failing",
        ),
        pytest.param(b'{"state": "done"}', "", id="done"),
        pytest.param(b'{"state": "none"}', "", id="nothing to declare"),
    ],
)
def test_refused_declarations_are_reported(
    server: Server, answer: Changeable, declaration: bytes, said: str
) -> None:
    answer.reply = (200, {}, DECLARED % declaration)

    status, line = check(server.url)

    assert (status, said in line) == (1 if said else 0, True), line


def test_check_waits_for_the_declaration_that_its_probe_starts(tmp_path: Path) -> None:
    states = [b'{"state": "pending"}', b'{"state": "done"}']

    def reply(delivery: Delivery) -> Reply:
        return (200, {}, DECLARED % states.pop(0))

    with (
        receiving(reply) as receiver,
        serving(tmp_path / "data", "--base-url", receiver.url) as server,
    ):
        status, _ = check(server.url)

    assert (status, states) == (0, [])


def test_application_that_does_not_listen_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with serving(tmp_path / "data", "--base-url", url) as server:
        status, line = check(server.url)

        assert server.request("GET", "/v1/tasks").json["tasks"] == []
    assert status == 1
    assert f"{url}/_poussetaches/_check: cannot connect: " in line


def test_server_without_a_key_is_named(tmp_path: Path) -> None:
    env = {"POUSSETACHES_AUTH_KEY": ""}
    with (
        receiving(lambda _: (401, {}, KEY_REFUSED)) as receiver,
        serving(tmp_path / "data", "--base-url", receiver.url, env=env) as server,
    ):
        status, line = check(server.url)

    assert status == 1
    assert (
        "refused the probe because the server sent no key: set the server's POUSSETACHES_AUTH_KEY"
        in line
    )


def test_server_that_does_not_know_the_application_is_reported(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        status, line = check(server.url)

    assert status == 1
    assert "start it with --base-url" in line


def test_application_that_is_not_an_allowed_target_is_reported(tmp_path: Path) -> None:
    flags = ("--base-url", "http://127.0.0.1:1", "--allow-target", "api.example.com")
    with serving(tmp_path / "data", *flags) as server:
        status, line = check(server.url)

    assert status == 1
    assert "127.0.0.1:1 is not an allowed target" in line
    assert "add it to the server's --allow-target" in line


def test_paused_server_is_reported(tmp_path: Path) -> None:
    flags = ("--base-url", "http://127.0.0.1:1", "--start-paused")
    with serving(tmp_path / "data", *flags) as server:
        status, line = check(server.url)

    assert status == 1
    assert "deliveries are paused (the server is paused)" in line


def test_token_of_the_server_is_used_and_required(tmp_path: Path) -> None:
    tokens = {"POUSSETACHES_API_TOKEN": "a token", "POUSSETACHES_READ_TOKEN": "another"}
    flags = ("--base-url", "http://127.0.0.1:1", "--start-paused")
    with serving(tmp_path / "data", *flags, env=tokens) as server:
        right = check(server.url, POUSSETACHES_API_TOKEN="a token")
        wrong = check(server.url, POUSSETACHES_API_TOKEN="no token")
        reading = check(server.url, POUSSETACHES_API_TOKEN="another")

    assert "deliveries are paused" in right[1]
    assert "requires its token" in wrong[1]
    assert "has read-only access" in reading[1]


def test_server_on_a_unix_socket_is_reached(tmp_path: Path) -> None:
    socket = tmp_path / "tasks.sock"
    with receiving(lambda _: (200, {}, b'{"poussetaches": "1.0.0", "tasks": 1}')) as receiver:
        process = subprocess.Popen(
            [sys.executable, "-m", "poussetaches", "run", "--uds", str(socket),
             "--data-dir", str(tmp_path / "data"), "--base-url", receiver.url, "--",
             sys.executable, "-m", "poussetaches", "check"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        said, _ = process.communicate(timeout=PATIENCE)

    assert said.startswith(f"{receiver.url}/_poussetaches/_check answered in 0.")
    assert process.returncode == 0


def test_program_that_is_not_poussetaches_is_reported() -> None:
    with receiving(lambda _: (200, {}, b"hello")) as other:
        status, line = check(other.url)

    assert status == 1
    assert f"from {other.url} is not a poussetaches response" in line
    assert line.endswith("; this URL is from POUSSETACHES_URL\n")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "unix:/nonexistent"])
def test_unreachable_server_is_reported(url: str) -> None:
    status, line = check(url)

    assert status == 1
    assert line.startswith(f"poussetaches: no answer from {url}: ")
    assert line.endswith("(this one is from POUSSETACHES_URL)\n")


WELL = b'{"poussetaches": "1.0.0", "tasks": 3}'


@pytest.mark.parametrize("default", [True, False], ids=["default-folder", "--data-dir"])
def test_address_in_the_data_folder_is_used(
    server: Server, answer: Changeable, default: bool
) -> None:
    answer.reply = (200, {}, WELL)
    folder = server.data_dir.parent
    if default:  # where a server without settings has it
        (folder / "poussetaches_data").symlink_to(server.data_dir)

    status, said = check("", *([] if default else ["--data-dir", "data"]), cwd=folder)

    assert status == 0, said
    assert f"the server at {server.url} ({folder.resolve()}/data/address)" in said


def test_data_folder_that_is_named_takes_precedence_over_the_environment(
    server: Server, answer: Changeable
) -> None:
    answer.reply = (200, {}, WELL)

    status, said = check("http://127.0.0.1:1", "--data-dir", str(server.data_dir))

    assert (status, f"server at {server.url} (" in said) == (0, True), said


def test_address_that_a_killed_server_left_behind_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "address").write_text("http://127.0.0.1:1\n")

    found = server_address(None, None, None, {"POUSSETACHES_DATA_DIR": str(tmp_path / "data")})
    status, said = check("", "--data-dir", str(tmp_path / "data"))

    assert found == ("http://127.0.0.1:7991", "the default")
    assert status == 1
    assert f"no server runs on the data folder {tmp_path}/data" in said


def test_url_and_data_folder_are_not_both_accepted(tmp_path: Path) -> None:
    status, said = check("", "--url", "http://127.0.0.1:1", "--data-dir", str(tmp_path))

    assert (status, "remove one of them" in said) == (2, True)


@pytest.mark.parametrize(
    ("folder", "is_doubtful"),
    [("here", False), ("here/below", False), (".", False), ("elsewhere", True)],
)
def test_application_in_another_folder_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, is_doubtful: bool
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    said = other_folder_warning(ReceiverProcess("gunicorn (process 7)", tmp_path / folder))

    assert ("is not the current folder" in said) is is_doubtful
