"""The environment that `poussetaches run` gives the application."""

from __future__ import annotations

from pathlib import Path

import pytest

from poussetaches.client.environment import read_signing_secrets
from poussetaches.server.app_processes import child_environment
from poussetaches.settings import load_settings

SETTINGS = load_settings({}, {"POUSSETACHES_AUTH_KEY": "a key"}, None)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://127.0.0.1:7991", "http://127.0.0.1:7991"),
        ("http://0.0.0.0:7991", "http://127.0.0.1:7991"),
        ("http://[::]:7991", "http://[::1]:7991"),
        ("http://10.0.0.5:80", "http://10.0.0.5:80"),
        ("unix:/run/tasks.sock", "unix:/run/tasks.sock"),
        ("unix:tasks.sock", f"unix:{Path.cwd()}/tasks.sock"),
    ],
)
def test_server_is_named_by_an_address_that_can_be_reached(address: str, url: str) -> None:
    assert child_environment({}, SETTINGS, address)["POUSSETACHES_URL"] == url


def test_signing_secrets_are_the_same_on_both_sides() -> None:
    secrets = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3,sixteen characters"
    settings = load_settings({}, {"POUSSETACHES_SIGNING_SECRET": secrets}, None)

    given = child_environment({}, settings, "http://127.0.0.1:1")["POUSSETACHES_SIGNING_SECRET"]

    assert read_signing_secrets(given) == settings.security.signing_secret


def test_nothing_is_told_of_what_is_not_set_and_the_rest_stays() -> None:
    environ = child_environment(
        {"PATH": "/bin", "POUSSETACHES_MODE": "push"}, SETTINGS, "http://127.0.0.1:1"
    )

    assert environ == {
        "PATH": "/bin",
        "POUSSETACHES_MODE": "push",
        "POUSSETACHES_URL": "http://127.0.0.1:1",
        "POUSSETACHES_AUTH_KEY": "a key",
    }
