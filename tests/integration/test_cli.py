from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from poussetaches import __version__
from poussetaches.settings import SETTINGS


def run(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("POUSSETACHES_")}
    return subprocess.run(
        [sys.executable, "-m", "poussetaches", *args],
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_version_is_that_of_the_package() -> None:
    result = run("--version")

    assert (result.returncode, result.stdout) == (0, f"poussetaches {__version__}\n")
    assert version("poussetaches-sidecar") == __version__


def test_command_is_installed_under_its_name() -> None:
    command = Path(sys.executable).with_name("poussetaches")

    result = subprocess.run(
        [command, "--version"], capture_output=True, text=True, timeout=30, check=True
    )

    assert result.stdout == run("--version").stdout


def test_no_command_shows_the_help_and_exits_2() -> None:
    result = run()

    assert (result.returncode, result.stdout) == (2, "")
    assert "serve" in result.stderr


def test_help_of_serve_shows_every_setting_with_its_default_and_variable() -> None:
    result = run("serve", "--help")

    assert result.returncode == 0
    for setting in SETTINGS:
        assert setting.env in result.stdout
        assert setting.flag is None or f"  {setting.flag} " in result.stdout
        assert f"\n{setting.group.title}:\n" in result.stdout
    assert "[default: 7991; env: POUSSETACHES_PORT]" in " ".join(result.stdout.split())


NO_FLAG = "secrets have no option, because other users can read a process's arguments; set "


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(
            ["serve", "--prot", "1"],
            "no such option: --prot (Possible options: --host, --port, --rate);"
            " see poussetaches serve --help",
            id="unknown flag",
        ),
        pytest.param(
            ["serve", "--port", "http"],
            "port: 'http' from flag --port is not valid; give a whole number from 0 to 65535",
            id="bad value",
        ),
        pytest.param(
            ["serve", "--dead-on", "404", "--dead-on", "x"],
            "dead_on: ['404', 'x'] from flag --dead-on is not valid;"
            ' give statuses from 100 to 599, or classes like "4xx"',
            id="bad item of a repeated flag",
        ),
        pytest.param(
            ["serve", "--port"],
            "option '--port' requires an argument; see poussetaches serve --help",
            id="flag without its value",
        ),
        pytest.param(
            ["serve", "now"],
            "got unexpected extra argument(s) (now); see poussetaches serve --help",
            id="extra argument",
        ),
        pytest.param(
            ["serve", "--auth-key", "secret"],
            f"--auth-key: {NO_FLAG}POUSSETACHES_AUTH_KEY, or POUSSETACHES_AUTH_KEY_FILE to the"
            " path of a file",
            id="secret as a flag",
        ),
        pytest.param(
            ["run", "--signing-secret-file=secret", "--", "flask", "run"],
            f"--signing-secret-file: {NO_FLAG}POUSSETACHES_SIGNING_SECRET, or"
            " POUSSETACHES_SIGNING_SECRET_FILE to the path of a file",
            id="file of a secret as a flag",
        ),
        pytest.param(
            ["check", "--api_token", "secret"],
            f"--api_token: {NO_FLAG}POUSSETACHES_API_TOKEN, or POUSSETACHES_API_TOKEN_FILE to the"
            " path of a file",
            id="secret as a flag of another command",
        ),
        pytest.param(
            ["serve", "--config", "/nonexistent.toml"],
            "flag --config: cannot read '/nonexistent.toml' (No such file or directory);"
            " give a readable TOML file",
            id="missing file",
        ),
        pytest.param(
            ["check", "--path", "tasks"],
            "--path: 'tasks' is not a path; it must begin with /",
            id="path without a slash",
        ),
        pytest.param(
            ["serve", "--host", "0.0.0.0"],
            "listening on 0.0.0.0 would allow every machine that can reach it to push tasks; set"
            " POUSSETACHES_API_TOKEN, or --allow-unauthenticated if this is intended",
            id="address that needs a token",
        ),
        pytest.param(
            ["sevre"],
            "no such command 'sevre'. Did you mean 'serve'?; see poussetaches --help",
            id="unknown command",
        ),
    ],
)
def test_mistake_on_the_command_line_is_one_line_and_exits_2(
    args: list[str], message: str
) -> None:
    result = run(*args)

    assert result.stderr == f"poussetaches: {message}\n"
    assert (result.returncode, result.stdout) == (2, "")


def test_mistake_in_the_environment_is_one_line_and_exits_2() -> None:
    result = run("serve", POUSSETACHES_TIMEOUT="0")

    assert result.stderr == (
        "poussetaches: timeout: '0' from environment POUSSETACHES_TIMEOUT is not valid;"
        " give a number from 0.1 to 86400\n"
    )
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("flag", "other"), [("--start-paused", "false"), ("--no-start-paused", "true")]
)
def test_both_forms_of_a_boolean_flag_are_given_ones(flag: str, other: str) -> None:
    # The port stops the start, and shows that the flag before it was taken.
    result = run("serve", flag, "--port", "x", POUSSETACHES_START_PAUSED=other)

    assert result.stderr.startswith("poussetaches: port: 'x'")


def test_secret_is_not_shown_in_an_error() -> None:
    result = run("serve", POUSSETACHES_AUTH_KEY=" hunter2")

    assert result.returncode == 2
    assert "hunter2" not in result.stderr + result.stdout


def test_command_line_is_read_without_the_libraries_that_the_server_or_typer_would_load() -> None:
    code = (
        "import sys; from poussetaches.cli.main import main;"
        "main(['serve', '--test-mode', '--dead-on', '404', '--port', 'x']);"
        "main(['run', '--port', 'x', '--', 'flask', 'run', '--debug']);"
        "print({'starlette', 'httptools', 'pydantic'} & set(sys.modules))"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )

    assert result.stderr.count("poussetaches: port: 'x' from flag --port") == 2
    assert result.stdout == "set()\n"
