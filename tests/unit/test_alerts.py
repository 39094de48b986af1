from __future__ import annotations

import asyncio
import json

import pytest

from poussetaches.core.errors import StoreFull
from poussetaches.core.failure_group import FailureGroup
from poussetaches.core.moment import SECOND, Moment
from poussetaches.core.queue import Queue, QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.core.task import Outcome
from poussetaches.engine.alerts import (
    AT_MOST_EVERY,
    GROUPS_EVERY,
    HELD_FOR,
    INTERVAL,
    LATE_BY,
    MOST_GROUPS,
    MOST_NAMED,
    MOST_POSTS,
    Alerts,
)
from poussetaches.engine.clock import Bell
from poussetaches.engine.defects import Defects
from poussetaches.engine.queue_registry import Queues
from poussetaches.store.base import News
from poussetaches.store.sqlite import SqliteStore
from tests.factories import make_task
from tests.fakes import FakeClock, Panic, ScriptedSender, let_run
from tests.store.sqlite_files import FULL, Disk

URL = "https://chat.test/hooks/7f3a9c1e"
ORIGIN = "http://app.test:5000"


class Surroundings:
    """The state that alerts depend on, set by a test."""

    def __init__(self) -> None:
        self.paused = False
        self.queues = Queues(QueueSettings(), original_retry=RetryPolicy())
        self.origins: dict[str, str] = {}
        self.due_at: dict[str, Moment] = {}

    def held(self) -> dict[str, str]:
        """Return the origins that are held."""
        return self.origins

    def oldest_due_at(self, queue: str | None) -> Moment | None:
        """Return since when the oldest due task is due."""
        if queue is None:
            return min(self.due_at.values(), default=None)
        return self.due_at.get(queue)

    def is_due_since(self, queue: str, moment: Moment, *, paused: bool = False) -> None:
        """Add a due task to a queue."""
        self.queues.update({queue: Queue(name=queue, paused=paused)})
        self.due_at[queue] = moment


class Chat:
    """A receiver of alerts, and the alerts posted to it."""

    def __init__(self, alerts: Alerts, sender: ScriptedSender, clock: FakeClock) -> None:
        self.alerts = alerts
        self.sender = sender
        self._clock = clock

    async def texts(self, *, after: float = 0.0) -> list[str]:
        """Advance the time and check once; return the posted alerts."""
        count = len(self.sender.requests)
        self._clock.advance(after)
        await self.alerts.tick()
        await self.alerts.settle()
        return [json.loads(request.body)["text"] for request in self.sender.requests[count:]]


@pytest.fixture
def surroundings() -> Surroundings:
    return Surroundings()


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def chat(
    store: SqliteStore,
    sender: ScriptedSender,
    surroundings: Surroundings,
    clock: FakeClock,
    bell: Bell,
) -> Chat:
    alerts = Alerts(
        URL,
        store=store,
        sender=sender,
        watched=surroundings,
        clock=clock,
        bell=bell,
        defects=Defects(),
    )
    return Chat(alerts, sender, clock)


def make_group(number: int = 0, **fields: object) -> FailureGroup:
    group = {"queue": "mail", "url_path": f"/send/{number}", "status": 500, "error": "KeyError"}
    return FailureGroup(**{**group, **fields})  # type: ignore[arg-type]  # by name


def tell(chat: Chat, *groups: FailureGroup) -> None:
    chat.alerts.committed(News(groups=list(groups)))


async def test_nothing_is_posted_while_all_is_well(chat: Chat) -> None:
    assert await chat.texts() == []
    assert await chat.texts(after=3600) == []


async def test_origin_is_told_once_it_was_held_for_two_minutes(
    chat: Chat, surroundings: Surroundings
) -> None:
    surroundings.origins[ORIGIN] = "Connection refused"

    assert await chat.texts() == []
    assert await chat.texts(after=HELD_FOR - 1) == []
    (text,) = await chat.texts(after=1)
    assert text == (
        f"poussetaches: {ORIGIN} could not be reached for 2 minutes: Connection refused. Its "
        "tasks wait until it is back; GET /v1/stats lists the origins that are held."
    )
    assert await chat.texts(after=10) == []


async def test_origin_that_comes_back_in_between_is_held_anew(
    chat: Chat, surroundings: Surroundings
) -> None:
    surroundings.origins[ORIGIN] = "refused"
    await chat.texts()
    surroundings.origins.clear()
    await chat.texts(after=HELD_FOR)
    surroundings.origins[ORIGIN] = "refused"

    assert await chat.texts() == []


async def test_recovery_is_told_once(chat: Chat, surroundings: Surroundings) -> None:
    surroundings.origins[ORIGIN] = "refused"
    await chat.texts()
    await chat.texts(after=HELD_FOR)

    surroundings.origins.clear()

    assert await chat.texts(after=10) == [f"poussetaches: {ORIGIN} is no longer held."]
    assert await chat.texts(after=10) == []


async def test_the_same_is_told_at_most_once_an_hour(
    chat: Chat, surroundings: Surroundings
) -> None:
    surroundings.origins[ORIGIN] = "refused"
    await chat.texts()
    await chat.texts(after=HELD_FOR)

    assert await chat.texts(after=AT_MOST_EVERY - 1) == []
    (text,) = await chat.texts(after=1)
    assert "for 62 minutes" in text


async def test_what_comes_and_goes_within_the_hour_is_quiet(
    chat: Chat, surroundings: Surroundings
) -> None:
    surroundings.origins[ORIGIN] = "refused"
    await chat.texts()
    await chat.texts(after=HELD_FOR)
    surroundings.origins.clear()
    await chat.texts(after=10)
    surroundings.origins[ORIGIN] = "refused"
    await chat.texts(after=10)

    assert await chat.texts(after=HELD_FOR) == []
    surroundings.origins.clear()
    assert await chat.texts(after=10) == []


async def test_late_tasks_are_told_with_the_queue_that_is_latest(
    chat: Chat, surroundings: Surroundings, clock: FakeClock
) -> None:
    now = clock.now()
    surroundings.is_due_since("mail", Moment(now + SECOND))
    surroundings.is_due_since("news", now)

    assert await chat.texts(after=LATE_BY - 1) == []
    (text,) = await chat.texts(after=1)

    assert "oldest due task of queue news is 5 minutes late" in text
    surroundings.due_at.clear()
    (text,) = await chat.texts(after=10)
    assert "no longer late" in text


async def test_tasks_that_somebody_paused_are_not_late(
    chat: Chat, surroundings: Surroundings, clock: FakeClock
) -> None:
    surroundings.is_due_since("mail", clock.now(), paused=True)
    assert await chat.texts(after=LATE_BY) == []

    surroundings.is_due_since("news", clock.now())
    surroundings.paused = True
    assert await chat.texts(after=LATE_BY) == []

    surroundings.paused = False
    assert len(await chat.texts()) == 1


async def test_full_disk_is_told_and_so_is_its_end(
    chat: Chat, store: SqliteStore, disk: Disk
) -> None:
    disk.error = FULL
    with pytest.raises(StoreFull):
        await store.add(make_task())
    (text,) = await chat.texts()

    disk.error = None
    await store.recover()

    assert text.startswith("poussetaches: The disk is full")
    assert await chat.texts() == ["poussetaches: The store can be written again."]


async def test_new_failure_group_is_told_at_once(chat: Chat, bell: Bell) -> None:
    tell(chat, make_group(1))

    assert bell.has_rung
    assert await chat.texts() == [
        "poussetaches: New failure: queue mail, /send/1: status 500, KeyError; "
        "GET /v1/failures has an example."
    ]
    assert await chat.texts(after=GROUPS_EVERY) == []


async def test_many_new_groups_are_one_text(chat: Chat) -> None:
    tell(chat, *(make_group(number) for number in range(MOST_NAMED + 3)))

    (text,) = await chat.texts()

    lines = text.splitlines()
    assert lines[0].startswith("poussetaches: 13 new failures")
    assert len(lines) == 1 + MOST_NAMED + 1
    assert lines[-1] == "… and 3 more"


async def test_groups_that_follow_within_a_minute_are_merged(chat: Chat) -> None:
    tell(chat, make_group(1))
    await chat.texts()
    tell(chat, make_group(2))
    tell(chat, make_group(3))

    assert await chat.texts(after=GROUPS_EVERY - 1) == []
    (text,) = await chat.texts(after=1)
    assert "2 new failures" in text


async def test_group_that_was_told_within_the_hour_is_no_news(chat: Chat) -> None:
    tell(chat, make_group(1))
    await chat.texts()

    tell(chat, make_group(1))
    assert await chat.texts(after=GROUPS_EVERY) == []
    tell(chat, make_group(1))
    assert len(await chat.texts(after=AT_MOST_EVERY)) == 1


async def test_flood_of_groups_is_counted(chat: Chat) -> None:
    tell(chat, *(make_group(number) for number in range(MOST_GROUPS + 5)))

    (text,) = await chat.texts()

    assert f"{MOST_GROUPS + 5} new failures" in text
    assert text.endswith(f"and {MOST_GROUPS + 5 - MOST_NAMED} more")


async def test_group_without_a_status_is_told_by_its_error(chat: Chat) -> None:
    tell(chat, make_group(1, status=None, error="expired"))

    (text,) = await chat.texts()

    assert "queue mail, /send/1: expired;" in text


async def test_all_that_is_new_is_one_post(chat: Chat, surroundings: Surroundings) -> None:
    surroundings.origins = {ORIGIN: "refused", "http://b.test": "refused"}
    await chat.texts()
    tell(chat, make_group(1))

    (text,) = await chat.texts(after=HELD_FOR)

    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(
    "reply",
    [500, 302, Outcome(error="no answer within 10 s"), Outcome(status=200, error="broke off")],
)
async def test_post_that_fails_is_made_again_and_then_given_up(
    chat: Chat, sender: ScriptedSender, reply: int | Outcome
) -> None:
    sender.always(reply)
    tell(chat, make_group(1))

    posts = [await chat.texts(after=10) for _ in range(MOST_POSTS + 1)]

    assert [len(texts) for texts in posts] == [1] * MOST_POSTS + [0]


async def test_what_is_new_goes_along_with_what_is_posted_again(
    chat: Chat, sender: ScriptedSender, surroundings: Surroundings
) -> None:
    surroundings.origins[ORIGIN] = "refused"
    await chat.texts(after=0)
    sender.replies(500)
    tell(chat, make_group(1))
    await chat.texts(after=10)

    (text,) = await chat.texts(after=HELD_FOR)

    assert "New failure" in text
    assert ORIGIN in text
    assert await chat.texts(after=10) == []


async def test_bug_of_the_sender_costs_no_more_than_a_post(
    chat: Chat, sender: ScriptedSender
) -> None:
    sender.replies(RuntimeError("a bug"))
    tell(chat, make_group(1))

    assert len(await chat.texts()) == 1
    assert len(await chat.texts()) == 1
    assert await chat.texts() == []


async def test_post_under_way_holds_nothing_up(
    chat: Chat, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.hangs()
    tell(chat, make_group(1))
    await chat.alerts.tick()
    await let_run()
    tell(chat, make_group(2))
    clock.advance(GROUPS_EVERY)
    await chat.alerts.tick()

    await chat.alerts.stop()

    assert sender.urls == [URL]


async def test_nothing_is_posted_any_more_once_it_was_stopped(chat: Chat) -> None:
    await chat.alerts.stop()
    tell(chat, make_group(1))

    assert await chat.texts() == []


async def test_post_is_json_to_the_url_that_was_set(chat: Chat, sender: ScriptedSender) -> None:
    tell(chat, make_group(1))
    await chat.texts()

    (request,) = sender.requests
    assert (request.method, request.url) == ("POST", URL)
    assert request.headers["Content-Type"] == "application/json"


async def test_url_is_never_logged(
    chat: Chat, sender: ScriptedSender, caplog: pytest.LogCaptureFixture
) -> None:
    sender.always(500)
    tell(chat, make_group(1))
    await chat.texts()

    assert [record.message for record in caplog.records] == ["alert not delivered"]
    assert "7f3a9c1e" not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize("error", [ValueError, Panic, asyncio.CancelledError])
async def test_post_that_fails_with_an_internal_error_is_repeated_and_the_url_is_not_logged(
    chat: Chat,
    sender: ScriptedSender,
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender.replies(error(f"odd URL: {URL}"))
    tell(chat, make_group(1))
    await chat.texts()

    assert len(await chat.texts(after=INTERVAL)) == 1
    assert caplog.messages == ["alert failed with an internal error", "alert not delivered"]
    assert "7f3a9c1e" not in caplog.text + str([vars(record) for record in caplog.records])


@pytest.mark.parametrize(
    ("quoted", "posted"),
    [
        ("<!channel> fix it", "&lt;!channel&gt; fix it"),
        ("<https://evil.test|sign in>", "&lt;https://evil.test|sign in&gt;"),
        ("&lt;!here&gt;", "&amp;lt;!here&amp;gt;"),
        ("@everyone, @channel", "@\u200beveryone, @\u200bchannel"),
        ("[sign in](https://evil.test)", "[sign in]\u200b(https://evil.test)"),
        ("a\u202eb\x1bc\u2028d", "abc\u2028d"),
        ("KeyError: 'a' [1] (2) user@", "KeyError: 'a' [1] (2) user@"),
    ],
    ids=["mention", "link", "escaped", "names", "Markdown", "invisible", "plain"],
)
async def test_markup_in_an_answer_is_inert(chat: Chat, quoted: str, posted: str) -> None:
    tell(chat, make_group(error=quoted))

    (text,) = await chat.texts()

    assert text == (
        f"poussetaches: New failure: queue mail, /send/0: status 500, {posted}; "
        "GET /v1/failures has an example."
    )


async def test_markup_in_a_path_or_an_origin_is_inert(
    chat: Chat, surroundings: Surroundings
) -> None:
    surroundings.origins["http://a<b"] = "the name a<b cannot be resolved"
    await chat.texts()
    tell(chat, make_group(url_path="/<!here>"))

    texts = "".join(await chat.texts(after=HELD_FOR))

    assert "/&lt;!here&gt;" in texts
    assert "http://a&lt;b could" in texts
    assert "<" not in texts
