from __future__ import annotations

import asyncio

import pytest

from poussetaches.core.task import Outcome
from poussetaches.engine.engine import Engine
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import run_due
from tests.factories import make_task
from tests.fakes import AWAY, FakeClock, Panic, ScriptedSender


class BrokenProbes(ScriptedSender):
    """A sender whose probes break down, as a bug would have it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    async def probe(self, origin: str) -> Outcome | None:
        """Count the probe, and break down."""
        self.probes.append(origin)
        raise self.error


@pytest.fixture(
    params=[UnicodeError("a secret"), Panic("a secret"), asyncio.CancelledError()], ids=repr
)
def sender(request: pytest.FixtureRequest) -> BrokenProbes:
    return BrokenProbes(request.param)


async def test_probe_that_breaks_down_is_counted_and_made_again(
    engine: Engine,
    store: SqliteStore,
    sender: BrokenProbes,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender.replies(AWAY)
    await store.add(make_task())
    await run_due(engine)

    for _ in range(5):
        clock.advance(1)
        await run_due(engine)

    assert len(sender.probes) > 1
    assert engine.internal_error_count == len(sender.probes)
    assert "a secret" not in caplog.text + str(engine.held())
