"""The address of an application, which `poussetaches run` reads from its command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]  # it has no types

from poussetaches.cli.app_address import base_url_of
from poussetaches.core.errors import SettingsError

BIND = "127.0.0.1:5307"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a gunicorn.conf.py."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=[".flaskenv", ".env", "../.env"])
def flask_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """A file that Flask reads in its working folder, or above it."""
    shop = folder / "shop"
    shop.mkdir()
    monkeypatch.chdir(shop)
    return shop / str(request.param)


def found(command: str, **environ: str) -> str | None:
    return base_url_of(shlex.split(command), environ)


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("gunicorn app:app", "http://127.0.0.1:8000"),
        ("gunicorn -b 127.0.0.1:8001 app:app", "http://127.0.0.1:8001"),
        ("gunicorn -b127.0.0.1:8001 app:app", "http://127.0.0.1:8001"),
        ("gunicorn --bind=0.0.0.0:80 app:app", "http://127.0.0.1:80"),
        ("gunicorn --bind :5001 app:app", "http://127.0.0.1:5001"),
        ("gunicorn --bind localhost app:app", "http://localhost:8000"),
        ("gunicorn --bind [::]:5001 app:app", "http://[::1]:5001"),
        ("gunicorn --bind [::1] app:app", "http://[::1]:8000"),
        ("gunicorn --bind tcp://10.0.0.5:81 app:app", "http://10.0.0.5:81"),
        ("/app/.venv/bin/gunicorn -w 2 app:app -b :82", "http://127.0.0.1:82"),
        ("python -m gunicorn app:app", "http://127.0.0.1:8000"),
        ("uv run gunicorn app:app", "http://127.0.0.1:8000"),
        ("env PORT=5001 gunicorn app:app", "http://127.0.0.1:5001"),
        ("uvicorn app:app", "http://127.0.0.1:8000"),
        ("uvicorn app:app --host 0.0.0.0 --port 9000", "http://127.0.0.1:9000"),
        ("hypercorn app:app", "http://127.0.0.1:8000"),
        ("hypercorn app:app -b 127.0.0.1:9001", "http://127.0.0.1:9001"),
        ("granian --interface wsgi --port 9002 app:app", "http://127.0.0.1:9002"),
        ("hypercorn -Db 127.0.0.1:9001 app:app", "http://127.0.0.1:9001"),
        ("daphne -b 0.0.0.0 -p 9003 app:app", "http://127.0.0.1:9003"),
        ("daphne --por 9003 app:app", "http://127.0.0.1:9003"),
        ("waitress-serve app:app", "http://127.0.0.1:8080"),
        ("waitress-serve --listen=*:9004 app:app", "http://127.0.0.1:9004"),
        ("waitress-serve --lis *:9004 app:app", "http://127.0.0.1:9004"),
        ("waitress-serve --unix-socket-p=600 app:app", "http://127.0.0.1:8080"),
        ("fastapi run app.py --port 9005", "http://127.0.0.1:9005"),
        ("flask run", "http://127.0.0.1:5000"),
        ("flask --app shop run --debug -h 0.0.0.0 -p 5001", "http://127.0.0.1:5001"),
        ("flask run -p5001", "http://127.0.0.1:5001"),
        ("python manage.py runserver", "http://127.0.0.1:8000"),
        ("python manage.py runserver 8080", "http://127.0.0.1:8080"),
        ("./manage.py runserver -v 2 --noreload 0:8080", "http://127.0.0.1:8080"),
        ("./manage.py runserver -v2 --set shop.settings 8080", "http://127.0.0.1:8080"),
        ("./manage.py runserver -6", "http://[::1]:8000"),
        ("./manage.py runserver --ip 8080", "http://[::1]:8080"),
        ("django-admin runserver --settings shop.settings [::1]:8080", "http://[::1]:8080"),
    ],
)
def test_command_that_is_known_tells_its_address(command: str, url: str) -> None:
    assert found(command) == url


@pytest.mark.parametrize(
    "command",
    [
        "python app.py",
        "sh -c 'gunicorn app:app'",
        "gunicorn -b unix:/run/app.sock app:app",
        "gunicorn -b fd://3 app:app",
        "gunicorn -b 127.0.0.1:0 app:app",
        "gunicorn -b 127.0.0.1:http app:app",
        "gunicorn -b 127.0.0.1:70000 app:app",
        "gunicorn -b 999.1.1.1:80 app:app",
        "gunicorn -b [1:2]:80 app:app",
        "gunicorn --bind",
        "gunicorn -c gunicorn.conf.py app:app",
        "gunicorn --conf gunicorn.conf.py app:app",
        "gunicorn -Rc gunicorn.conf.py app:app",
        "gunicorn --certfile cert.pem app:app",
        "gunicorn --certf cert.pem app:app",
        "uvicorn app:app --uds /run/app.sock",
        "uvicorn app:app --fd 3",
        "uvicorn app:app --ssl-certfile=cert.pem",
        "hypercorn -c hypercorn.toml app:app",
        "hypercorn -b unix:/run/app.sock app:app",
        "waitress-serve --unix-socket=/run/app.sock app:app",
        "daphne -e tcp:8000 --endpoint tcp:8001 app:app",
        "daphne -e ssl:443 app:app",
        "daphne -u /run/app.sock app:app",
        "daphne --unix /run/app.sock app:app",
        "flask run -h unix:///run/app.sock",
        "flask shell",
        "python manage.py migrate",
    ],
)
def test_address_that_cannot_be_told_is_not_guessed(command: str) -> None:
    assert found(command) is None


@pytest.mark.parametrize(
    ("command", "environ", "url"),
    [
        ("gunicorn app:app", {"PORT": "5001"}, "http://127.0.0.1:5001"),
        ("gunicorn -b :5002 app:app", {"PORT": "5001"}, "http://127.0.0.1:5002"),
        ("gunicorn a:a", {"GUNICORN_CMD_ARGS": "--bind=:5003"}, "http://127.0.0.1:5003"),
        ("fastapi run", {"PORT": "5004"}, "http://127.0.0.1:5004"),
        ("uvicorn a:a", {"UVICORN_PORT": "5005"}, "http://127.0.0.1:5005"),
        ("uvicorn a:a", {"UVICORN_UDS": "/run/app.sock"}, None),
        ("granian a:a", {"GRANIAN_HOST": "::1"}, "http://[::1]:8000"),
        ("flask run", {"FLASK_RUN_PORT": "5006"}, "http://127.0.0.1:5006"),
        ("flask run", {"FLASK_RUN_CERT": "adhoc"}, None),
    ],
)
def test_environment_tells_what_the_arguments_do_not(
    command: str, environ: Mapping[str, str], url: str | None
) -> None:
    assert found(command, **environ) == url


@pytest.mark.parametrize(
    "words",
    [
        ["-b", BIND],
        [f"-b{BIND}"],
        [f"-b={BIND}"],
        ["--bind", BIND],
        [f"--bind={BIND}"],
        ["--bin", BIND],
        [f"--bi={BIND}"],
        ["-Rb", BIND],
        [f"-DRb{BIND}"],
        ["-n", "b", "--log-level", "debug", "-Rw2", "-b", BIND],
        ["-nbook", "-ebind=:80", "--backlog", "5", "--bin", BIND],
    ],
)
def test_option_is_read_as_gunicorn_reads_it(words: Sequence[str]) -> None:
    command = ["gunicorn", "app:app", *words]

    assert Config().parser().parse_args(words).bind == [BIND]
    assert base_url_of(command, {}) == f"http://{BIND}"


def test_option_is_not_abbreviated_for_click() -> None:
    assert found("uvicorn --por 9000 app:app") == "http://127.0.0.1:8000"


@pytest.mark.parametrize("text", ['--access-logformat "%(h)s', "--name shop\\"])
def test_environment_that_gunicorn_cannot_split_is_refused(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        found("gunicorn app:app", GUNICORN_CMD_ARGS=text)

    assert str(refused.value).startswith(f"GUNICORN_CMD_ARGS: {text!r} cannot be split")
    assert found("uvicorn app:app", GUNICORN_CMD_ARGS=text) == "http://127.0.0.1:8000"


def test_file_that_gunicorn_reads_by_itself_may_say_anything(folder: Path) -> None:
    (folder / "gunicorn.conf.py").write_text("bind = 'unix:/run/app.sock'\n")

    assert found("gunicorn app:app") is None
    assert found("gunicorn -b :8001 app:app") == "http://127.0.0.1:8001"


@pytest.mark.parametrize(
    ("command", "environ", "url"),
    [
        ("flask run", {}, None),
        ("flask run -p 5001", {}, "http://127.0.0.1:5001"),
        ("flask run", {"FLASK_RUN_PORT": "5001"}, "http://127.0.0.1:5001"),
        ("flask run", {"FLASK_SKIP_DOTENV": "1"}, "http://127.0.0.1:5000"),
        ("gunicorn app:app", {}, "http://127.0.0.1:8000"),
    ],
)
def test_port_in_a_file_that_flask_reads_is_not_guessed(
    flask_file: Path, command: str, environ: Mapping[str, str], url: str | None
) -> None:
    flask_file.write_text("FLASK_APP=shop\nFLASK_RUN_PORT=5007\n")

    assert found(command, **environ) == url


@pytest.mark.parametrize("option", ["-e", "--env-file"])
def test_port_in_a_file_that_is_named_to_flask_is_not_guessed(folder: Path, option: str) -> None:
    (folder / "shop.env").write_text("FLASK_RUN_PORT=5007\n")

    assert found(f"flask {option} shop.env run") is None
    assert found("flask run") == "http://127.0.0.1:5000"
