"""Lookups of names are shared, cached and limited in number, and slow ones do not delay others."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from poussetaches.core.cause import Cause
from poussetaches.core.task import Outcome
from poussetaches.engine import resolver as resolver_module
from poussetaches.engine.resolver import (
    FRESH,
    FRESH_FAILURE,
    MOST_NAMES,
    SLOW,
    Answer,
    LookupFailed,
    Resolver,
)
from tests.fakes import let_run

PATIENT = 30.0  # seconds; only a failing test waits so long
NOT_FOUND = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Dns:
    """A DNS with the answers that a test sets; lookups of all other names block their threads."""

    def __init__(self) -> None:
        self.addresses: dict[str, Sequence[str]] = {}
        self.errors: dict[str, Exception] = {}
        self.asked: Counter[str] = Counter()
        self.now = 1000.0
        self._gives_up = threading.Event()

    def look_up(self, host: str) -> Sequence[str]:
        """Return or raise what the test set; block for all other names."""
        self.asked[host] += 1
        if host in self.errors:
            raise self.errors[host]
        if host in self.addresses:
            return self.addresses[host]
        self._gives_up.wait(PATIENT)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    def give_up(self) -> None:
        """End the lookups of silent names."""
        self._gives_up.set()


@pytest.fixture
def dns() -> Iterator[Dns]:
    dns = Dns()
    yield dns
    dns.give_up()


@pytest.fixture
def resolver(dns: Dns) -> Resolver:
    return resolver_of(dns)


def resolver_of(dns: Dns, most: int = 8) -> Resolver:
    return Resolver(lookup=dns.look_up, most=most, monotonic=lambda: dns.now)


async def resolved(resolver: Resolver, host: str) -> Answer:
    """Return the answer of a lookup that ends by itself."""
    return await answered(resolver, host, limit=PATIENT)


async def answered(resolver: Resolver, host: str, *, limit: float) -> Answer:
    """Return the addresses of a host, or the outcome of a failed lookup."""
    try:
        return tuple(await resolver.addresses(host, limit=limit))
    except LookupFailed as exc:
        return exc.outcome


async def ask_silent(resolver: Resolver, count: int) -> list[Outcome]:
    """Ask for names whose DNS is silent, all at once, without waiting for an answer."""
    asks = (answered(resolver, f"silent{number}.example", limit=0) for number in range(count))
    answers = await asyncio.gather(*asks)
    return [answer for answer in answers if isinstance(answer, Outcome)]


async def test_addresses_are_cached_for_some_seconds(resolver: Resolver, dns: Dns) -> None:
    dns.addresses["app.example"] = ["10.0.0.1", "10.0.0.2"]
    assert await resolved(resolver, "app.example") == ("10.0.0.1", "10.0.0.2")
    dns.addresses["app.example"] = ["10.0.0.3"]

    dns.now += FRESH - 0.001
    assert await resolved(resolver, "app.example") == ("10.0.0.1", "10.0.0.2")
    dns.now += 0.001
    assert await resolved(resolver, "app.example") == ("10.0.0.3",)

    assert dns.asked["app.example"] == 2


async def test_failure_is_cached_for_a_shorter_time(resolver: Resolver, dns: Dns) -> None:
    dns.errors["gone.example"] = NOT_FOUND
    for _ in range(3):
        await resolved(resolver, "gone.example")
    assert dns.asked["gone.example"] == 1

    dns.now += FRESH_FAILURE
    await resolved(resolver, "gone.example")

    assert dns.asked["gone.example"] == 2


async def test_addresses_that_do_not_answer_are_looked_up_again(
    resolver: Resolver, dns: Dns
) -> None:
    dns.addresses["app.example"] = ["10.0.0.1"]
    await resolved(resolver, "app.example")
    dns.addresses["app.example"] = ["10.0.0.2"]

    resolver.expire("app.example")
    resolver.expire("another.example")

    assert await resolved(resolver, "app.example") == ("10.0.0.2",)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_address_is_not_looked_up(resolver: Resolver, dns: Dns, address: str) -> None:
    assert await resolved(resolver, address) == (address,)
    assert not dns.asked


async def test_name_is_looked_up_once_for_all_who_ask(resolver: Resolver, dns: Dns) -> None:
    asking = [asyncio.create_task(resolved(resolver, "silent.example")) for _ in range(20)]
    await let_run()
    dns.give_up()

    answers = await asyncio.gather(*asking)

    assert dns.asked["silent.example"] == 1
    assert {answer.error for answer in answers if isinstance(answer, Outcome)} == {
        "the name silent.example cannot be resolved: Temporary failure in name resolution"
    }


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NOT_FOUND, Cause.UNKNOWN_HOST),
        # If the DNS does not answer, the name may well exist.
        (socket.gaierror(socket.EAI_AGAIN, "Try again"), Cause.LOOKUP_FAILED),
        (UnicodeError("label too long"), Cause.UNKNOWN_HOST),
        (OSError(errno.EIO, "Input/output error"), Cause.LOOKUP_FAILED),
        (OSError(errno.EMFILE, "Too many open files"), Cause.OUT_OF_RESOURCES),
        (socket.gaierror(socket.EAI_MEMORY, "No memory"), Cause.OUT_OF_RESOURCES),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else "",
)
async def test_error_says_whose_fault_it_is(
    resolver: Resolver, dns: Dns, error: Exception, expected: Cause
) -> None:
    dns.errors["app.example"] = error

    outcome = await resolved(resolver, "app.example")

    assert isinstance(outcome, Outcome)
    assert outcome.error
    assert outcome.cause is expected


async def test_name_without_addresses_is_unknown(resolver: Resolver, dns: Dns) -> None:
    dns.addresses["empty.example"] = []

    outcome = await resolved(resolver, "empty.example")

    assert isinstance(outcome, Outcome)
    assert outcome.unknown_host


async def test_name_that_is_gone_is_not_reached_by_its_old_addresses(
    resolver: Resolver, dns: Dns
) -> None:
    dns.addresses["app.example"] = ["10.0.0.1"]
    await resolved(resolver, "app.example")
    del dns.addresses["app.example"]
    dns.errors["app.example"] = NOT_FOUND
    dns.now += FRESH
    await resolved(resolver, "app.example")

    dns.now += FRESH_FAILURE
    await ask_silent(resolver, 100)

    assert isinstance(await answered(resolver, "app.example", limit=0), Outcome)


async def test_caller_gets_a_timeout_and_the_lookup_goes_on(resolver: Resolver, dns: Dns) -> None:
    outcome = await answered(resolver, "silent.example", limit=0)

    assert outcome == Outcome(
        error="the name silent.example cannot be resolved: no answer within 0 s",
        cause=Cause.LOOKUP_FAILED,
    )
    assert resolver.thread_count == 1


async def test_lookups_are_limited_in_number(resolver: Resolver, dns: Dns) -> None:
    for _ in range(20):
        await ask_silent(resolver, 100)
        dns.now += SLOW

    assert 0 < resolver.thread_count < 8
    assert dns.asked.total() == resolver.thread_count


async def test_name_that_was_found_never_waits_for_silent_ones(dns: Dns) -> None:
    resolver = resolver_of(dns)
    dns.addresses["app.example"] = ["10.0.0.1"]
    await resolved(resolver, "app.example")
    for _ in range(20):
        await ask_silent(resolver, 100)
        dns.now += SLOW

    dns.addresses["app.example"] = ["10.0.0.2"]
    dns.now += FRESH

    assert await resolved(resolver, "app.example") == ("10.0.0.2",)


@pytest.mark.parametrize("seconds", [1, 2, 3, 10])
async def test_new_name_waits_a_second_for_silent_ones_at_the_most(dns: Dns, seconds: int) -> None:
    resolver = resolver_of(dns, most=64)
    dns.addresses["app.example"] = ["10.0.0.1"]
    for _ in range(seconds):
        await ask_silent(resolver, 100)
        dns.now += SLOW

    assert await resolved(resolver, "app.example") == ("10.0.0.1",)


async def test_name_that_was_asked_for_last_gets_the_next_thread(dns: Dns) -> None:
    resolver = resolver_of(dns, most=1)
    await ask_silent(resolver, 1)
    dns.errors["last.example"] = dns.errors["first.example"] = NOT_FOUND
    first = asyncio.create_task(resolved(resolver, "first.example"))
    await let_run()
    last = asyncio.create_task(resolved(resolver, "last.example"))
    await let_run()

    dns.give_up()
    await asyncio.gather(first, last)

    assert list(dns.asked) == ["silent0.example", "last.example", "first.example"]


async def test_name_that_nobody_waits_for_any_more_is_not_looked_up(dns: Dns) -> None:
    resolver = resolver_of(dns, most=1)
    outcomes = await ask_silent(resolver, 2)
    assert outcomes[1].error == (
        "the name silent1.example cannot be resolved: 1 other lookups are under way"
    )
    assert outcomes[1].unreachable

    dns.give_up()
    await resolved(resolver, "silent0.example")
    await let_run()

    assert list(dns.asked) == ["silent0.example"]


async def test_addresses_are_used_for_longer_while_no_thread_is_free(dns: Dns) -> None:
    resolver = resolver_of(dns, most=1)
    dns.addresses["app.example"] = ["10.0.0.1"]
    await resolved(resolver, "app.example")
    await ask_silent(resolver, 1)

    dns.now += 10 * FRESH

    assert await resolved(resolver, "app.example") == ("10.0.0.1",)
    assert dns.asked["app.example"] == 1


async def test_cache_is_bounded_and_names_that_were_not_found_are_evicted_first(dns: Dns) -> None:
    resolver = resolver_of(dns)
    names = [f"app{number}.example" for number in range(MOST_NAMES + 1)]
    dns.addresses = dict.fromkeys(names, ("10.0.0.1",))
    dns.errors["missing.example"] = NOT_FOUND
    for name in ("missing.example", *names):
        await resolved(resolver, name)

    await resolved(resolver, names[-1])
    await resolved(resolver, "missing.example")

    assert dns.asked["missing.example"] == 2
    assert dns.asked[names[-1]] == 1


class NoThread:
    """A thread that cannot be started."""

    def __init__(self, **_: object) -> None:
        """Begin nothing."""

    def start(self) -> None:
        """Fail as Python does."""
        raise RuntimeError("can't start new thread")


async def test_lack_of_threads_is_a_shortage_of_this_machine(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "Thread", NoThread)

    outcome = await resolved(resolver, "app.example")

    assert isinstance(outcome, Outcome)
    assert outcome.out_of_resources
    assert not outcome.unreachable
    assert resolver.thread_count == 0
