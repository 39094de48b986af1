from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.harness import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that delivers nothing; its log contains only changes by callers."""
    with serving(tmp_path_factory.mktemp("hostile") / "data", "--test-mode") as server:
        started = server.log.read_text()
        yield server
        assert server.request("GET", "/healthz").status == 200
        logged = server.log.read_text().removeprefix(started).splitlines()
        expected = (
            " info api.audit_log ",
            " warning server.connection_limits connections closed to make room ",
        )
        assert [line for line in logged if not any(text in line for text in expected)] == []
