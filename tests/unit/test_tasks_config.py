"""The configuration in an application's environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from poussetaches.client.environment import (
    Mode,
    read_mode,
    read_public_prefix,
    read_secret,
    read_signing_secrets,
)
from poussetaches.core.errors import SettingsError

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
