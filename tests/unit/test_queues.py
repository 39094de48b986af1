from __future__ import annotations

import pytest

from poussetaches.core.queue import (
    Lane,
    QueueSettings,
    Retention,
    RetentionOverrides,
)
from poussetaches.core.retry import RetryOverrides, RetryPolicy
from poussetaches.core.task import DeliveryForm
from poussetaches.engine.queue_registry import Queues
from tests.factories import make_queue, make_task

DEFAULTS = QueueSettings(concurrency=4, rate=5.0, base_url="http://server.test")
ORIGINAL = RetryPolicy(max_attempts=7)


def queues_with(paused: bool = False, **overrides: object) -> Queues:
    """Return queues; ``mail`` has settings."""
    queues = Queues(DEFAULTS, original_retry=ORIGINAL)
    queue = make_queue("mail", paused=paused, **overrides)
    queues.update({"default": make_queue(), "mail": queue})
    return queues


def test_queue_has_what_is_set_on_it_and_else_what_the_server_has() -> None:
    queues = queues_with(concurrency=2)

    assert queues.settings_of("mail") == QueueSettings(
        concurrency=2, rate=5.0, base_url="http://server.test"
    )
    assert queues.settings_of("default") == DEFAULTS
    assert queues.settings_of("unknown") == DEFAULTS


def test_change_of_a_queue_counts_at_once() -> None:
    queues = queues_with(concurrency=2)
    assert queues.settings_of("mail").concurrency == 2

    queues.update({"mail": make_queue("mail", concurrency=9)})

    assert queues.settings_of("mail").concurrency == 9


def test_queue_that_is_gone_is_like_any_unknown_one() -> None:
    queues = queues_with(paused=True, concurrency=2)

    queues.update({"mail": None})

    assert queues.settings_of("mail") == DEFAULTS
    assert not queues.is_paused("mail")
    assert [queue.name for queue in queues] == ["default"]
    assert (len(queues), queues.get("mail")) == (1, None)


def test_queue_is_paused_by_name() -> None:
    queues = queues_with(paused=True)

    assert queues.is_paused("mail")
    assert not queues.is_paused("default")
    assert not queues.is_paused("unknown")


def test_policy_is_read_field_by_field_from_task_queue_and_server() -> None:
    queues = queues_with(retry=RetryOverrides(max_attempts=3, min_backoff=9.0))
    task = make_task(queue="mail", retry=RetryOverrides(min_backoff=2.0))

    assert queues.policy_of(task) == RetryPolicy(max_attempts=3, min_backoff=2.0)


def test_policy_of_an_enveloped_task_is_the_originals() -> None:
    queues = queues_with(retry=RetryOverrides(max_attempts=3))

    assert queues.policy_of(make_task(queue="mail", delivery=DeliveryForm.ENVELOPE)) == ORIGINAL


@pytest.mark.parametrize(
    ("queue", "url", "expected"),
    [
        pytest.param("mail", "/x", "http://mail.test/app/x", id="path of its queue"),
        pytest.param("default", "/x", "http://server.test/x", id="path of the server"),
        pytest.param("mail", "http://else.test/x", "http://else.test/x", id="absolute URL"),
    ],
)
def test_path_is_put_behind_a_base_url(queue: str, url: str, expected: str) -> None:
    queues = queues_with(base_url="http://mail.test/app/")

    assert queues.url_of(make_task(queue=queue, url=url)) == expected


def test_path_without_a_base_url_leads_nowhere() -> None:
    queues = Queues(QueueSettings(), original_retry=ORIGINAL)

    assert queues.url_of(make_task(url="/x")) is None
    assert queues.origin_of(Lane("default", "")) == ""


def test_lane_leads_to_its_origin_or_that_of_the_base_url() -> None:
    queues = queues_with(base_url="https://mail.test/app")

    assert queues.origin_of(Lane("mail", "")) == "https://mail.test:443"
    assert queues.origin_of(Lane("mail", "http://a.test:80")) == "http://a.test:80"


def test_retention_is_read_field_by_field_too() -> None:
    queues = queues_with(keep_dead=RetentionOverrides(count=1))

    assert queues.settings_of("mail").keep_dead == Retention(count=1, age=7_776_000.0)
