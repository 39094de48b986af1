"""A rate holds over restarts: neither a stop nor a crash gives a queue another burst."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.integration.asgi import request
from tests.integration.service import Service

URL = "http://app.test/run"
BURST = 100
HOUR = 3600
DAY = 24 * HOUR
LIMITS = {"rate": "100/h", "burst": BURST, "concurrency": 50}
PER_TOKEN = HOUR / 100  # seconds


class Machine:
    """Runs one service after another on the same file."""

    def __init__(self, path: Path, clock: FakeClock, sender: ScriptedSender) -> None:
        self.clock = clock
        self._path = path
        self._sender = sender

    @property
    def started(self) -> int:
        """The number of attempts so far."""
        return len(self._sender.requests)

    async def start(self, *, rate: str = "none", burst: int = 1) -> Service:
        """Start a service, and let it do what it may do at once."""
        service = await Service.opened(
            self._path,
            clock=self.clock,
            sender=self._sender,
            random=seeded(),
            POUSSETACHES_RATE=rate,
            POUSSETACHES_BURST=str(burst),
        )
        await service.advance(0)
        return service


@pytest.fixture
def machine(tmp_path: Path, clock: FakeClock, sender: ScriptedSender) -> Machine:
    return Machine(tmp_path / "tasks.sqlite3", clock, sender)


async def ask(service: Service, method: str, path: str, body: object) -> None:
    answer = await request(service.app, method, path, body)
    assert answer.status < 400, answer


async def push_many(service: Service, count: int = 400, **fields: object) -> None:
    tasks = [{"url": URL, "queue": "limited", **fields} for _ in range(count)]
    await ask(service, "POST", "/v1/tasks/batch", {"tasks": tasks})


async def spend_the_burst(machine: Machine) -> Service:
    """Start a service whose queue has used all its tokens, and has tasks left."""
    service = await machine.start()
    await ask(service, "PUT", "/v1/queues/limited", LIMITS)
    await push_many(service)
    await service.advance(1)
    assert machine.started == BURST
    return service


async def end(service: Service, how: str) -> None:
    await (service.die() if how == "crash" else service.close())


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_restarts_give_no_tokens(machine: Machine, how: str) -> None:
    service = await spend_the_burst(machine)
    for _ in range(3):
        await end(service, how)
        machine.clock.advance(2)
        service = await machine.start()
        await service.advance(1)
    soon = machine.started
    await service.advance(10 * PER_TOKEN)
    later = machine.started
    await service.close()

    assert (soon, later) == (BURST, BURST + 10)


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_time_that_passes_between_two_servers_gives_tokens(
    machine: Machine, how: str
) -> None:
    service = await spend_the_burst(machine)
    await end(service, how)

    machine.clock.advance(7 * PER_TOKEN)
    service = await machine.start()
    await service.close()

    assert machine.started == BURST + 7


async def test_machine_that_was_off_has_its_tokens_by_the_clock(machine: Machine) -> None:
    service = await spend_the_burst(machine)
    await service.close()

    machine.clock.restart_machine(off_for=7 * PER_TOKEN)
    service = await machine.start()
    await service.close()

    assert machine.started == BURST + 7


@pytest.mark.parametrize("jump", [-365 * DAY, -1, 365 * DAY])
async def test_clock_that_is_set_between_two_servers_gives_no_tokens_and_takes_none(
    machine: Machine, jump: float
) -> None:
    service = await spend_the_burst(machine)
    await service.close()

    machine.clock.jump(jump)
    service = await machine.start()
    at_once = machine.started
    await service.advance(10 * PER_TOKEN)
    later = machine.started
    await service.close()

    assert (at_once, later) == (BURST, BURST + 10)


async def test_machine_that_starts_in_the_past_begins_without_tokens(machine: Machine) -> None:
    service = await spend_the_burst(machine)
    await service.close()

    machine.clock.restart_machine(off_for=-DAY)
    service = await machine.start()
    at_once = machine.started
    await service.advance(PER_TOKEN)
    await service.close()

    assert (at_once, machine.started) == (BURST, BURST + 1)


@pytest.mark.parametrize("set_while", ["running", "stopped"])
async def test_clock_set_ahead_before_a_reboot_gives_no_tokens(
    machine: Machine, set_while: str
) -> None:
    service = await spend_the_burst(machine)
    if set_while == "running":
        machine.clock.jump(365 * DAY)
        await service.advance(1)
    else:
        await service.close()
        machine.clock.jump(365 * DAY)
        service = await machine.start()
    await service.die()

    machine.clock.restart_machine(off_for=7 * PER_TOKEN)
    service = await machine.start()
    await service.close()

    assert machine.started == BURST + 7


async def test_rate_of_the_whole_server_holds_over_restarts(machine: Machine) -> None:
    service = await machine.start(rate="100/h", burst=10)
    for queue in ("one", "two"):
        await push_many(service, 30, queue=queue)
    await service.advance(1)
    await service.close()
    service = await machine.start(rate="100/h", burst=10)
    await service.close()

    assert machine.started == 20


async def test_queue_that_is_deleted_and_created_again_has_no_tokens(machine: Machine) -> None:
    service = await machine.start()
    await ask(service, "PUT", "/v1/queues/limited", LIMITS)
    await push_many(service, BURST)
    await service.advance(1)
    everything = {"filter": {"queue": "limited", "state": "succeeded"}}
    await ask(service, "POST", "/v1/tasks/delete", everything)
    await ask(service, "DELETE", "/v1/queues/limited", None)
    await service.close()

    service = await machine.start()
    await ask(service, "PUT", "/v1/queues/limited", LIMITS)
    await push_many(service)
    await service.advance(1)
    await service.close()

    assert machine.started == BURST


async def test_rate_that_was_changed_before_the_restart_is_counted_by_the_new_one(
    machine: Machine,
) -> None:
    service = await spend_the_burst(machine)
    await ask(service, "PUT", "/v1/queues/limited", {**LIMITS, "rate": "1/s", "burst": 10})
    await service.close()

    service = await machine.start()
    at_once = machine.started
    await service.advance(5)
    await service.close()

    assert (at_once, machine.started) == (BURST, BURST + 5)
