from __future__ import annotations

import socket
from pathlib import Path

import pytest

from poussetaches.core.errors import CannotListen
from poussetaches.server.listener import (
    SEND_BUFFER,
    is_loopback,
    listening,
    warn_of_other_port,
)
from poussetaches.settings import load_settings
from poussetaches.settings.table import Listener, Security

UNGUARDED = Security(allow_unauthenticated=True)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("192.168.1.2", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
        ("203.0.113.7", False),
    ],
)
def test_only_this_machine_reaches_loopback_addresses(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_system_gives_up_a_client_that_is_gone_and_keeps_little_for_it() -> None:
    with (
        listening(Listener(port=0), Security()) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        connection, _ = listener.accept()
        with connection:
            limit = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            buffer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

    assert limit == 60_000  # milliseconds
    assert buffer <= 2 * SEND_BUFFER


@pytest.mark.parametrize(
    ("flags", "address", "file", "said"),
    [
        pytest.param({}, "http://127.0.0.1:7991", None, None, id="configured-port"),
        pytest.param({"port": "0"}, "http://127.0.0.1:40839", None, None, id="any-port"),
        pytest.param({"uds": "tasks.sock"}, "unix:tasks.sock", None, None, id="socket"),
        pytest.param(
            {"host": "0.0.0.0"},
            "http://0.0.0.0:40839",
            None,
            "URL=http://127.0.0.1:40839",
            id="url",
        ),
        pytest.param(
            {},
            "http://127.0.0.1:40839",
            Path("/the data/address"),
            "URL=$(cat '/the data/address')",
            id="file",
        ),
    ],
)
def test_other_port_than_the_configured_one_is_warned_about(
    flags: dict[str, str],
    address: str,
    file: Path | None,
    said: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    warn_of_other_port(load_settings(flags, {}, None).listener, address, file)

    advice = [(each.levelname, each.__dict__["advice"]) for each in caplog.records]
    assert [(level, text.endswith(f"POUSSETACHES_{said}")) for level, text in advice] == (
        [] if said is None else [("WARNING", True)]
    )


def refusal_of(listener: Listener) -> str:
    with pytest.raises(CannotListen) as caught, listening(listener, UNGUARDED):
        pass
    return str(caught.value)


def test_address_of_another_machine_is_named_as_such() -> None:
    refused = refusal_of(Listener(host="203.0.113.7", port=0))

    assert "it is no address of this machine; give one with --host" in refused


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("folder", "it is a folder"), ("file", "there is another file")],
)
def test_path_that_is_no_socket_is_named_as_what_it_is(
    tmp_path: Path, kind: str, reason: str
) -> None:
    path = tmp_path / "tasks.sock"
    path.mkdir() if kind == "folder" else path.touch()

    assert refusal_of(Listener(uds=path)) == (
        f"cannot listen at {path}: {reason}; choose another with --uds"
    )
    assert path.exists()


def test_socket_of_another_server_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "tasks.sock"
    with listening(Listener(uds=path), Security()):
        refused = refusal_of(Listener(uds=path))

    assert "another server listens there" in refused
