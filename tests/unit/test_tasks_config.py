"""The configuration in an application's environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from poussetaches.client.address import read_address
from poussetaches.client.environment import (
    Mode,
    check_variables,
    read_mode,
    read_public_prefix,
    read_secret,
    read_signing_secrets,
    warn_of_misspelt,
)
from poussetaches.client.tasks import Tasks
from poussetaches.core.errors import SettingsError
from poussetaches.core.setting_names import APPLICATION, PREFIX, SECRETS, SERVER
from poussetaches.settings.sources import BY_ENV, BY_SECRET_FILE, CONFIG, NOT_SETTINGS

NAME = "POUSSETACHES_AUTH_KEY"


@pytest.mark.parametrize(
    ("text", "mode"), [(None, Mode.PUSH), ("", Mode.PUSH), ("immediate", Mode.IMMEDIATE)]
)
def test_mode_is_read(text: str | None, mode: Mode) -> None:
    assert read_mode(text) is mode


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(SettingsError, match="MODE is 'eager'; use 'push' or 'immediate'"):
        read_mode("eager")


def test_secret_is_read_from_its_variable_or_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from a file\r\n")

    assert read_secret({NAME: "given"}, NAME) == "given"
    assert read_secret({NAME: "", NAME + "_FILE": str(file)}, NAME) == "from a file"
    assert read_secret({NAME: ""}, NAME) is None


def test_secret_that_is_given_twice_or_cannot_be_read_is_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")

    with pytest.raises(SettingsError, match="remove one of them"):
        read_secret({NAME: "given", NAME + "_FILE": missing}, NAME)
    with pytest.raises(SettingsError, match=f"environment {NAME}_FILE: cannot read '{missing}'"):
        read_secret({NAME + "_FILE": missing}, NAME)


@pytest.mark.parametrize(
    ("text", "secrets"),
    [(None, ()), ("", ()), ("one", (b"one",)), ("one, whsec_dHdv", (b"one", b"two"))],
)
def test_signing_secrets_are_those_of_the_servers_setting(
    text: str | None, secrets: tuple[bytes, ...]
) -> None:
    assert read_signing_secrets(text) == secrets


def test_signing_secret_that_is_not_base64_is_refused() -> None:
    with pytest.raises(SettingsError, match="SIGNING_SECRET: the part after whsec_ is not base64"):
        read_signing_secrets("whsec_!")


@pytest.mark.parametrize(
    ("text", "prefix"),
    [(None, ""), ("", ""), ("/", ""), ("/shop/", "/shop"), ("/caf%C3%A9/a", "/caf\u00e9/a")],
)
def test_public_prefix_is_a_path_without_a_slash_at_its_end(text: str | None, prefix: str) -> None:
    assert read_public_prefix(text) == prefix


@pytest.mark.parametrize("text", ["shop", "https://shop.example/shop", "/shop?x=1", "/shop#x"])
def test_public_prefix_that_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="PUBLIC_PREFIX is '"):
        read_public_prefix(text)


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("POUSSETACHES_ULR", "POUSSETACHES_URL"),
        ("POUSSETACHES_TOKEN", "POUSSETACHES_API_TOKEN"),
        ("POUSSETACHES_AUTHKEY", "POUSSETACHES_AUTH_KEY"),
        ("POUSSETACHES_MODUS", "POUSSETACHES_MODE"),
    ],
)
def test_misspelt_variable_is_logged_once_with_the_similar_name(
    name: str, similar: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_misspelt.cache_clear()
    tasks = Tasks(environ={name: "x", "POUSSETACHES_AUTH_KEY": "k"})

    tasks.keys()
    tasks.pusher()
    read_address(None, None, {name: "x"})

    assert caplog.messages == [
        f"the environment variable {name} is not a setting of an application, and is ignored;"
        f" did you mean {similar}?"
    ]


def test_variables_of_the_server_and_of_containers_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [
        *BY_ENV,
        *BY_SECRET_FILE,
        *NOT_SETTINGS,
        *("POUSSETACHES_NAME", "POUSSETACHES_PORT_7991_TCP", "POUSSETACHES_SERVICE_HOST"),
    ]

    check_variables(dict.fromkeys(names, "x"))

    assert caplog.messages == []


def test_names_of_settings_are_those_of_the_servers_table() -> None:
    server = {PREFIX + name for name in SERVER}
    application = {PREFIX + name for name in APPLICATION}

    assert server == {*BY_ENV, CONFIG} - application
    assert application - BY_ENV.keys() == NOT_SETTINGS - {CONFIG}
    assert {f"{PREFIX}{name}_FILE" for name in SECRETS} <= BY_SECRET_FILE.keys()
