"""Without certificate authorities, the server starts, and only attempts over https fail."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from tests.acceptance.harness import receiving, serving
from tests.hostile.receivers import answers, misbehaving
from tests.integration.v1 import Client

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ONCE = {"max_attempts": 1}


@pytest.mark.parametrize(
    "content", [None, "", "no certificate\n"], ids=["missing", "empty", "bad"]
)
def test_deliveries_over_http_work_with_a_broken_file_of_authorities(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_text(content)
    env = {"SSL_CERT_FILE": str(path), "SSL_CERT_DIR": str(tmp_path / "nowhere")}
    with receiving() as receiver, serving(tmp_path / "data", env=env) as server:
        client = Client(server)
        plain = client.push(url=receiver.url)
        secure = client.push(url=receiver.url.replace("http:", "https:"), retry=ONCE)

        assert client.task(plain, "?wait=30")["state"] == "succeeded"
        task = client.task(secure, "?wait=30")
        assert task["state"] == "dead"
        assert "no certificate authority is trusted here" in task["last_error"]
        assert "SSL_CERT_FILE" in task["last_error"]
        assert server.logged(f"SSL_CERT_FILE cannot be used path={path}")
        assert server.logged("https targets cannot be reached")


async def test_repaired_file_is_read_at_the_next_start(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path / "authorities.pem"
    env = {"SSL_CERT_FILE": str(path), "SSL_CERT_DIR": str(tmp_path / "nowhere")}

    def deliver(address: str) -> str:
        with serving(tmp_path / "data", env=env) as server:
            client = Client(server)
            task_id = client.push(url=f"https://{address}/", retry=ONCE)
            state: str = client.task(task_id, "?wait=30")["state"]
            return state

    async with misbehaving(answers(OK), tls=context) as address:
        before = await asyncio.to_thread(deliver, address)
        authority.cert_pem.write_to_path(str(path))
        after = await asyncio.to_thread(deliver, address)

    assert (before, after) == ("dead", "succeeded")
