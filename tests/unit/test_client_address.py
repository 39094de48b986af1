from __future__ import annotations

from pathlib import Path

import pytest

from poussetaches.client.address import read_address
from poussetaches.core.errors import SettingsError


def test_address_is_the_local_one_unless_somebody_says_otherwise() -> None:
    assert read_address(None, None, {}).origin == "http://127.0.0.1:7991"
    environ = {"POUSSETACHES_URL": "https://tasks.example.com/pt/"}
    assert read_address(None, None, environ).origin == "https://tasks.example.com"
    assert read_address(None, None, environ).prefix == "/pt"
    assert read_address("http://[::1]:80", None, environ).origin == "http://[::1]"


def test_token_is_given_or_in_the_environment_or_in_the_url(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    url = "http://:in%20url@app"

    assert read_address(url, "given", {"POUSSETACHES_API_TOKEN": "env"}).token == "given"
    assert read_address(url, None, {"POUSSETACHES_API_TOKEN": "env"}).token == "env"
    assert read_address(url, None, {"POUSSETACHES_API_TOKEN_FILE": str(file)}).token == "from-file"
    assert read_address(url, None, {}).token == "in url"
    assert read_address("http://app", None, {}).headers("text/plain") == {
        "Content-Type": "text/plain"
    }


@pytest.mark.parametrize(
    "url",
    [
        *("app:7991", "ftp://app", "http://", "http://app:port", "unix:", "unix://"),
        *("http://a b", "http://app/a b", "http://app/\nx", "http://app/é"),
    ],
)
def test_url_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        read_address(url, None, {})


@pytest.mark.parametrize(
    "url", ["http://:to[ken@app", "http://:token\uff0f@app", "ftp://:token@app", "http://:token@"]
)
def test_token_is_not_in_the_message_that_refuses_its_url(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_address(url, None, {})

    assert "ken" not in str(caught.value)


def test_unix_socket_is_an_address() -> None:
    assert read_address("unix:/run/pt.sock", None, {}).socket == "/run/pt.sock"
    assert read_address("unix:///run/pt.sock", None, {}).socket == "/run/pt.sock"


@pytest.mark.parametrize("token", ["secret\n", "sec\r\nret", "secret ", " secret", "sécret", "\t"])
def test_token_that_no_header_can_have_is_refused_and_not_shown(token: str) -> None:
    for given, environ in ((token, {}), (None, {"POUSSETACHES_API_TOKEN": token})):
        with pytest.raises(SettingsError, match=r"^the API token \(POUSSETACHES_API_TOKEN") as got:
            read_address("http://app", given, environ)

        assert token.strip() not in str(got.value).split()
        assert "cret" not in str(got.value)
