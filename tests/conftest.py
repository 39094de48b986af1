from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from poussetaches.core.queue import QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.store.sqlite import SqliteStore
from tests.effort import LONG
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.seconds_by_folder import SecondsByFolder
from tests.store.sqlite_files import Disk, opened

# Show the values of failed assertions in these modules. This is done here because all folders
# import them, and a module cannot be rewritten after its import.
pytest.register_assert_rewrite(
    "tests.store.clock_rules",
    "tests.store.driving",
    "tests.store.edit_rules",
    "tests.store.export_rules",
    "tests.store.push_rules",
    "tests.store.queue_rules",
    "tests.store.schedule_change_rules",
    "tests.store.schedule_rules",
    "tests.store.search_rules",
    "tests.store.task_rules",
)

# Properties do not depend on the speed of the machine, and their failures are reproducible.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
# Search with new random examples each time (FUZZ=long).
settings.register_profile(
    "long",
    parent=settings.get_profile("steady"),
    derandomize=False,
    max_examples=3_000,
    print_blob=True,
)
settings.load_profile("long" if LONG else "steady")
if not LONG:
    # Hypothesis also draws the constants of all imported modules. The imported modules depend on
    # the tests that ran before in the same process, so the examples would not be reproducible.
    providers._get_local_constants = Constants


def pytest_configure(config: pytest.Config) -> None:
    """Print the seconds by folder at the end of a run."""
    if not hasattr(config, "workerinput"):  # only in the process that reports
        config.pluginmanager.register(SecondsByFolder())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in captured output: reports are sent between processes as UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


# Without jitter, so that a test can compute the time of the next attempt.
EXACT = RetryPolicy(jitter=0.0)

EngineWith = Callable[[EngineConfig], Awaitable[Engine]]


async def run_due(engine: Engine) -> None:
    """Run all due attempts and probes to their end."""
    await engine.dispatcher.tick()
    await engine.dispatcher.settle()
    await engine.prober.tick()
    await engine.prober.settle()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sender() -> ScriptedSender:
    return ScriptedSender()


@pytest.fixture
def disk() -> Disk:
    """Return the disk of the store."""
    return Disk()


@pytest.fixture
async def store(disk: Disk) -> AsyncIterator[SqliteStore]:
    async with opened(None, disk=disk) as store:
        yield store


@pytest.fixture
async def engine_with(
    store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> AsyncIterator[EngineWith]:
    """Return a function that makes an engine. Its loops do not run: tests call ``tick``."""
    engines = []

    async def make(config: EngineConfig) -> Engine:
        engine = Engine(store=store, sender=sender, clock=clock, random=seeded(), config=config)
        await engine.load()
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        await engine.stop(0)


@pytest.fixture
async def engine(engine_with: EngineWith) -> Engine:
    return await engine_with(EngineConfig(queue=QueueSettings(retry=EXACT)))
