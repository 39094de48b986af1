"""``poussetaches run``: a server and an application that start and end together."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import warm_start
from tests.acceptance.harness import PATIENCE, Server, free_port, holding, serving, wait_until
from tests.acceptance.warm_start import PROGRAM

SCRIPT = Path(__file__).with_name("application.py")
KEY_LENGTH = 43  # of 32 bytes in base64


class Application:
    """The application beside a server, seen through its file of events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        folder.mkdir()

    @property
    def url(self) -> str:
        """The application's URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def command(self) -> list[str]:
        """The command that starts the application."""
        return [sys.executable, str(SCRIPT), str(self.port), str(self.folder)]

    def put(self, name: str) -> None:
        """Create one of the files that control the application."""
        (self.folder / name).touch()

    def events(self) -> list[dict[str, Any]]:
        """Return its events so far."""
        file = self.folder / "events"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]

    def wait_for_event(self, **wanted: object) -> dict[str, Any]:
        """Wait for an event with these fields, and return it."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events() if wanted.items() <= event.items()]

        return wait_until(found, bool, f"the application to see {wanted}")[0]

    def paths(self) -> list[str]:
        """Return the paths that tasks requested."""
        asked = [event["path"] for event in self.events() if event["event"] == "asked"]
        return [path for path in asked if path != "/_poussetaches/_check"]

    def signals(self) -> list[str]:
        """Return the signals that the application received."""
        return [event["name"] for event in self.events() if event["event"] == "signal"]


class Run(Server):
    """A ``poussetaches run`` in its own process."""

    def __init__(
        self, data_dir: Path, command: list[str], *flags: str, env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(data_dir, *flags, env={"POUSSETACHES_AUTH_KEY": "", **(env or {})})
        self._command = command

    @property
    def words(self) -> list[str]:
        """The arguments of poussetaches."""
        own = ["--port", str(self.port), "--data-dir", str(self.data_dir), *self._flags]
        return ["run", *own, "--", *self._command]

    @property
    def environ(self) -> dict[str, str]:
        """The environment of ``run``."""
        return self._env

    def start(self) -> None:
        """Start ``run``, and wait until its server listens."""
        self.start_process()
        wait_until(self.listens, lambda yes: yes or self._process_ended(), "it to listen")

    def start_process(self) -> None:
        """Start ``run``."""
        with self.log.open("ab") as log, open(os.devnull) as nothing:  # noqa: PTH123
            files = [nothing.fileno(), log.fileno(), log.fileno()]
            self._process = warm_start.start(self.words, env=self._env, files=files)

    def refused(self) -> tuple[int, str]:
        """Start a ``run`` that must fail; return its status and output."""
        ended = warm_start.run(self.words, env=self._env, timeout=PATIENCE)
        return ended.returncode, ended.stderr

    def push_path(self, path: str) -> str:
        """Push a task whose URL is a path; return its id."""
        answer = self.request("POST", "/v1/tasks", json.dumps({"url": path}).encode())
        assert answer.status == 201, answer
        task_id: str = answer.json["id"]
        return task_id

    def wait_for_line(self, event: str) -> None:
        """Wait for a line of the log."""
        wait_until(lambda: self.logged(event), bool, f"the log to say {event}")


@contextmanager
def running(
    tmp_path: Path,
    application: Application,
    *flags: str,
    command: list[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """Run a server with an application; without the flag, the base URL is the application's."""
    flags = flags if "--base-url" in flags else ("--base-url", application.url, *flags)
    run = Run(tmp_path / "data", command or application.command, *flags, env=env)
    try:
        run.start()
        yield run
    finally:
        run.close()
        for event in application.events():
            if event["event"] == "started" and _is_running(event["pid"]):
                os.kill(event["pid"], signal.SIGKILL)


def _is_running(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return str(SCRIPT).encode() in words


def state_of(server: Server, task_id: str) -> str:
    state: str = server.request("GET", f"/v1/tasks/{task_id}").json["state"]
    return state


def started(run: Run) -> int:
    """Wait until the application has started; return its process id."""
    lines = wait_until(lambda: run.logged("application started"), bool, "the application's start")
    pid = int(lines[0].rpartition("pid=")[2])
    # Until then, it is an interpreter that starts: a signal to it may be lost.
    wait_until(lambda: _command_of(pid), lambda line: b"launch.py" not in line, "its program")
    return pid


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:  # it has ended
        return b""


def is_gone(pid: int) -> None:
    wait_until(lambda: _is_running(pid), lambda runs: not runs, "the application to be gone")


@pytest.fixture
def application(tmp_path: Path) -> Application:
    return Application(tmp_path / "application")


def test_application_finds_the_server_and_the_key_in_its_environment(
    tmp_path: Path, application: Application
) -> None:
    with running(tmp_path, application) as run:
        environ = application.wait_for_event(event="started")["environ"]
        run.push_path("/welcome")
        asked = application.wait_for_event(event="asked", path="/welcome")

        assert environ["POUSSETACHES_URL"] == run.url
        assert len(environ["POUSSETACHES_AUTH_KEY"]) == KEY_LENGTH
        assert asked["key"] == environ["POUSSETACHES_AUTH_KEY"]


def test_application_gets_the_key_token_and_secret_of_the_server(
    tmp_path: Path, application: Application
) -> None:
    (tmp_path / "key").write_text("a key in a file\n")
    env = {
        "POUSSETACHES_AUTH_KEY_FILE": str(tmp_path / "key"),
        "POUSSETACHES_API_TOKEN": "a token",
        "POUSSETACHES_SIGNING_SECRET": "sixteen characters",
        "POUSSETACHES_URL": "http://127.0.0.1:1",
    }
    with running(tmp_path, application, env=env) as run:
        environ = application.wait_for_event(event="started")["environ"]
        asked = application.wait_for_event(event="asked", path="/_poussetaches/_check")

    assert environ["POUSSETACHES_URL"] == run.url
    assert environ["POUSSETACHES_AUTH_KEY"] == "a key in a file"
    assert environ["POUSSETACHES_API_TOKEN"] == "a token"
    assert environ["POUSSETACHES_SIGNING_SECRET"].startswith("whsec_")
    assert "POUSSETACHES_AUTH_KEY_FILE" not in environ
    assert (asked["key"], asked["signed"]) == ("a key in a file", True)


def test_deliveries_wait_for_the_application_and_are_not_held(
    tmp_path: Path, application: Application
) -> None:
    application.put("closed")
    with running(tmp_path, application) as run:
        application.wait_for_event(event="started")
        task_id = run.push_path("/early")
        [reason] = run.request("GET", f"/v1/tasks/{task_id}").json["waiting_for"]
        assert reason["reason"] == "starting"
        (application.folder / "closed").unlink()
        application.wait_for_event(event="answered", path="/early")

        assert not run.logged("origin held")
        assert run.stop() == 0


def test_end_before_the_application_answers_delivers_nothing(
    tmp_path: Path, application: Application
) -> None:
    with running(tmp_path, application, command=["sleep", "1000"]) as run:
        run.push_path("/never")

        assert run.stop() == 0
    assert application.paths() == []


def test_base_url_is_optional_for_known_programs(tmp_path: Path, application: Application) -> None:
    (tmp_path / "shop.py").write_text(
        "from flask import Flask\napp = Flask(__name__)\napp.post('/welcome')(lambda: 'welcome')\n"
    )
    own = ["-m", "flask", "--app", str(tmp_path / "shop.py"), "run", "-p", str(application.port)]
    run = Run(tmp_path / "data", [sys.executable, *own])
    try:
        run.start()
        task_id = run.push_path("/welcome")

        wait_until(lambda: state_of(run, task_id), "succeeded".__eq__, "it to succeed")
        run.wait_for_line("application answers .*status=404")
        run.stop()
    finally:
        run.close()


def test_application_is_not_started_if_the_port_is_in_use(
    tmp_path: Path, application: Application
) -> None:
    run = Run(tmp_path / "data", application.command, "--base-url", application.url)
    with socket.socket() as other:
        other.bind(("127.0.0.1", run.port))
        other.listen()

        status, said = run.refused()

    assert status == 1
    assert str(run.port) in said
    assert application.events() == []


@pytest.mark.parametrize(
    ("flags", "command", "status", "said"),
    [
        pytest.param((), ["no-such-program"], 127, "the program 'no-such-program' is not found"),
        pytest.param((), [""], 127, "the program '' is not found"),
        pytest.param((), ["/etc"], 126, "'/etc' is a folder"),
        pytest.param((), ["/" + "a" * 300], 126, "File name too long"),
        pytest.param((), [__file__], 126, f"no permission to execute {__file__!r}"),
        pytest.param(("--tasks", __file__), ["flask", "run"], 126, "no permission to execute"),
        pytest.param((), ["sleep", "9"], 2, "the address of 'sleep 9' is unknown"),
        pytest.param(("--tasks", "'"), ["sleep", "9"], 2, '--tasks: "\'" cannot be split'),
        pytest.param(("--tasks", ""), ["sleep", "9"], 2, "--tasks: the command is empty"),
        pytest.param(("--tasks", " "), ["sleep", "9"], 2, "--tasks: the command is empty"),
        pytest.param(
            ("--tasks", "flask run"), ["flask", "run"], 2, "both commands would listen at"
        ),
    ],
)
def test_command_that_cannot_run_is_named(
    tmp_path: Path, flags: tuple[str, ...], command: list[str], status: int, said: str
) -> None:
    run = Run(tmp_path / "data", command, *flags)

    found, text = run.refused()

    assert (found, len(text.splitlines())) == (status, 1)
    assert said in text
    assert not run.data_dir.exists()


def test_program_on_the_path_that_cannot_be_executed_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "shop").touch(mode=0o644)
    run = Run(tmp_path / "data", ["shop"], env={"PATH": str(folder)})

    status, said = run.refused()

    assert (status, len(said.splitlines())) == (126, 1)
    assert f"no permission to execute '{folder / 'shop'}'" in said


def test_environment_of_gunicorn_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    env = {"GUNICORN_CMD_ARGS": '--access-logformat "%(h)s'}
    run = Run(tmp_path / "data", [sys.executable, "-m", "gunicorn", "app:app"], env=env)

    status, said = run.refused()

    assert (status, len(said.splitlines())) == (2, 1)
    assert "GUNICORN_CMD_ARGS: " in said


def test_program_whose_interpreter_is_missing_is_named(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/nonexistent/interpreter\n")
    program.chmod(0o755)
    run = Run(tmp_path / "data", [str(program)], "--base-url", "http://127.0.0.1:1")

    status, said = run.refused()

    assert status == 127
    assert f"cannot run {program}" in said


def test_attempts_end_and_are_recorded_before_the_application_is_stopped(
    tmp_path: Path, application: Application
) -> None:
    with running(tmp_path, application) as run:
        task_id = run.push_path("/held")
        application.wait_for_event(event="asked", path="/held")
        run.signal(signal.SIGTERM)
        run.wait_for_line(" stopping .*in_flight=1")

        application.put("release")

        assert run.status() == 0
    assert [event["event"] for event in application.events()][-3:] == [
        "asked",
        "answered",
        "signal",
    ]
    assert application.signals() == ["SIGTERM"]
    with serving(tmp_path / "data") as server:
        assert state_of(server, task_id) == "succeeded"


def test_application_can_push_while_it_ends(tmp_path: Path, application: Application) -> None:
    application.put("push_last")
    with running(tmp_path, application) as run:
        application.wait_for_event(event="asked")

        assert run.stop() == 0
    application.wait_for_event(event="pushed", status=201)


def test_second_signal_cuts_off_attempts_and_is_passed_to_the_application(
    tmp_path: Path, application: Application
) -> None:
    with running(tmp_path, application) as run:
        application.wait_for_event(event="asked")
        held = run.push_path("/held")
        application.wait_for_event(event="asked", path="/held")
        run.signal(signal.SIGTERM)
        run.wait_for_line(" stopping ")

        run.signal(signal.SIGINT)

        assert run.status() == 0
    assert application.signals() == ["SIGINT"]
    with serving(tmp_path / "data", "--start-paused") as server:
        assert state_of(server, held) == "waiting"


def test_end_of_the_application_ends_the_server_with_its_status(
    tmp_path: Path, application: Application
) -> None:
    with running(tmp_path, application) as run:
        held = run.push_path("/held")
        application.wait_for_event(event="asked", path="/held")
        run.push_path("/exit/3")

        assert run.status() == 3
    with serving(tmp_path / "data", "--start-paused") as server:
        task = server.request("GET", f"/v1/tasks/{held}").json
    assert (task["state"], task["attempts"]) == ("waiting", [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "program",
    [
        pytest.param("kill -$1 $$", id="ended by the signal itself"),
        pytest.param("exit $((128 + $1))", id="status of a shell"),
        pytest.param("exit 0", id="status 0"),
    ],
)
def test_application_that_ends_by_the_stop_signal_is_a_success(
    tmp_path: Path, application: Application, number: signal.Signals, program: str
) -> None:
    script = (
        f"trap 'trap - {number.name[3:]}; set -- {number.value}; {program}' {number.name[3:]};"
        f" touch {application.folder}/ready; while :; do sleep 0.05; done"
    )
    with running(tmp_path, application, command=["sh", "-c", script]) as run:
        wait_until((application.folder / "ready").exists, bool, "the application to be ready")
        run.signal(number)

        assert run.status() == 0


def test_status_of_an_application_that_fails_while_it_stops_is_kept(
    tmp_path: Path, application: Application
) -> None:
    script = f"trap 'exit 3' TERM; touch {application.folder}/ready; while :; do sleep 0.05; done"
    with running(tmp_path, application, command=["sh", "-c", script]) as run:
        wait_until((application.folder / "ready").exists, bool, "the application to be ready")

        assert run.stop() == 3


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_signal_by_which_another_program_ends_the_application_is_in_the_status(
    tmp_path: Path, application: Application, name: str
) -> None:
    with running(tmp_path, application, command=["sleep", "1000"]) as run:
        os.kill(started(run), signal.Signals[name])

        assert run.status() == 128 + signal.Signals[name]


@pytest.mark.parametrize("status", [0, 3, 143])
def test_exit_status_of_the_application_is_kept(
    tmp_path: Path, application: Application, status: int
) -> None:
    with running(tmp_path, application, command=["sh", "-c", f"exit {status}"]) as run:
        assert run.status() == status


def test_application_that_gets_the_signal_with_the_server_is_a_success(
    tmp_path: Path, application: Application
) -> None:
    with (
        holding() as (receiver, release),
        running(
            tmp_path, application, "--base-url", receiver.url, command=["sleep", "1000"]
        ) as run,
    ):
        pid = started(run)
        run.push_path("/held")
        wait_until(
            lambda: [each.path for each in receiver.deliveries],
            lambda paths: "/held" in paths,
            "the delivery",
        )
        run.signal(signal.SIGTERM)
        run.wait_for_line(" stopping .*in_flight=1")
        os.kill(pid, signal.SIGTERM)
        run.wait_for_line("application ended")
        release.set()

        assert run.status() == 0


def test_application_ends_when_the_server_is_killed(
    tmp_path: Path, application: Application
) -> None:
    with running(tmp_path, application) as run:
        application.wait_for_event(event="asked")

        run.kill()

        application.wait_for_event(event="signal", name="SIGTERM")
        is_gone(application.wait_for_event(event="started")["pid"])


def test_processes_that_a_shell_leaves_behind_are_ended_too(
    tmp_path: Path, application: Application
) -> None:
    line = f"{shlex.join(application.command)}; true"
    with running(tmp_path, application, command=["sh", "-c", line]) as run:
        application.wait_for_event(event="asked")

        assert run.stop() == 0
        assert application.signals() == ["SIGTERM"]
        assert not _is_running(application.wait_for_event(event="started")["pid"])


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"])
def test_other_signals_are_passed_on(tmp_path: Path, application: Application, name: str) -> None:
    with running(tmp_path, application) as run:
        application.wait_for_event(event="asked")

        run.signal(signal.Signals[name])

        application.wait_for_event(event="signal", name=name)
        assert run.stop() == 0
    assert application.signals() == [name, "SIGTERM"]


@contextmanager
def in_terminal(run: Run) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a terminal, whose keyboard is the process's standard input."""
    code = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    with run.log.open("ab") as log:
        terminal = subprocess.Popen(
            [sys.executable, "-c", code, *PROGRAM, *run.words],
            env=run.environ,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    try:
        yield terminal
    finally:
        terminal.kill()
        terminal.communicate()


def test_ctrl_c_in_a_terminal_reaches_the_application_once_and_after_the_attempts(
    tmp_path: Path, application: Application
) -> None:
    run = Run(tmp_path / "data", application.command, "--base-url", application.url)
    with in_terminal(run) as terminal:
        application.wait_for_event(event="asked")
        run.push_path("/held")
        application.wait_for_event(event="asked", path="/held")
        assert terminal.stdin is not None
        terminal.stdin.write(b"\x03")
        terminal.stdin.flush()
        run.wait_for_line(" stopping ")
        assert application.signals() == []

        application.put("release")

        assert terminal.wait(PATIENCE) == 0
    assert application.signals() == ["SIGINT"]


def test_closed_terminal_ends_both(tmp_path: Path, application: Application) -> None:
    run = Run(tmp_path / "data", application.command, "--base-url", application.url)
    with in_terminal(run) as terminal:
        application.wait_for_event(event="asked")

        terminal.kill()

        application.wait_for_event(event="signal", name="SIGTERM")
        is_gone(application.wait_for_event(event="started")["pid"])


def test_tasks_go_only_to_the_second_process(tmp_path: Path, application: Application) -> None:
    tasks = Application(tmp_path / "tasks")
    flags = ("--tasks", shlex.join(tasks.command), "--base-url", tasks.url)
    with running(tmp_path, application, *flags) as run:
        application.wait_for_event(event="started")
        run.push_path("/slow")
        tasks.wait_for_event(event="answered", path="/slow")

        assert run.stop() == 0
    assert application.paths() == []
    assert (application.signals(), tasks.signals()) == (["SIGTERM"], ["SIGTERM"])


def test_end_of_the_second_process_ends_all_processes_with_its_status(
    tmp_path: Path, application: Application
) -> None:
    tasks = Application(tmp_path / "tasks")
    flags = ("--tasks", shlex.join(tasks.command), "--base-url", tasks.url)
    with running(tmp_path, application, *flags) as run:
        run.push_path("/exit/4")

        assert run.status() == 4
    assert application.signals() == ["SIGTERM"]


def test_status_of_the_process_that_ended_first_is_kept_after_a_signal(
    tmp_path: Path, application: Application
) -> None:
    tasks = Application(tmp_path / "tasks")
    flags = ("--tasks", shlex.join(tasks.command), "--base-url", tasks.url)
    with holding() as (receiver, _), running(tmp_path, application, *flags) as run:
        run.push(f"{receiver.url}/held")
        wait_until(lambda: receiver.deliveries, bool, "the delivery")
        run.push_path("/exit/4")
        run.wait_for_line("application for tasks ended")

        run.signal(signal.SIGTERM)

        assert run.status() == 4
