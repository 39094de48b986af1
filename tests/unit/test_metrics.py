from __future__ import annotations

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from poussetaches.api.metrics import MAX_SERIES, Measurements, expose, limited
from poussetaches.core.responses import QueueCounts
from poussetaches.core.task import TaskState
from poussetaches.engine.stats import Totals

NUMBERS = Measurements(
    queues={"mail": QueueCounts(waiting=3, running=1, succeeded=5, dead=2, failing=1)},
    totals=Totals(pushed=11, succeeded=5, failed=4, put_back=1, repeated=6, died=2),
    pruned={TaskState.DEAD: 7},
    in_flight=1,
    held_origin_count=2,
    paused=True,
    store_bytes=4096,
    oldest_due_age=1.5,
    dropped_log_lines=3,
)


def exposed(numbers: Measurements = NUMBERS) -> dict[str, float]:
    """Return every sample by its name and labels, as a scraper reads them."""
    text = expose(numbers, accept="").body.decode()
    return {
        " ".join([sample.name, *sorted(sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name != "poussetaches_build_info"
    }


def test_numbers_are_told_under_their_names() -> None:
    assert exposed() == {
        "poussetaches_tasks mail waiting": 3,
        "poussetaches_tasks mail running": 1,
        "poussetaches_tasks mail succeeded": 5,
        "poussetaches_tasks dead mail": 2,
        "poussetaches_pushed_total": 11,
        "poussetaches_attempts_total succeeded": 5,
        "poussetaches_attempts_total failed": 4,
        "poussetaches_attempts_total put_back": 1,
        "poussetaches_repeated_requests_total": 6,
        "poussetaches_died_total": 2,
        "poussetaches_pruned_total succeeded": 0,
        "poussetaches_pruned_total dead": 7,
        "poussetaches_dropped_log_lines_total": 3,
        "poussetaches_in_flight": 1,
        "poussetaches_held_origins": 2,
        "poussetaches_paused": 1,
        "poussetaches_store_bytes": 4096,
        "poussetaches_oldest_due_age_seconds": 1.5,
    }


def test_queues_after_the_first_hundred_are_added_up_as_other() -> None:
    queues = {f"q{number}": QueueCounts(waiting=1) for number in range(MAX_SERIES + 2)}

    found = limited(queues)

    assert len(found) == MAX_SERIES + 1
    assert found["other"] == QueueCounts(waiting=2)


def test_queue_called_other_is_among_the_rest() -> None:
    queues = {"other": QueueCounts(waiting=1, dead=1)}
    queues |= {f"q{number}": QueueCounts(waiting=1) for number in range(MAX_SERIES)}

    assert limited(queues)["other"] == QueueCounts(waiting=1, dead=1)
    assert limited({"other": QueueCounts(dead=3)}) == {"other": QueueCounts(dead=3)}


def test_series_do_not_depend_on_how_many_tasks_there_are() -> None:
    quiet = msgspec.structs.replace(NUMBERS, queues={"mail": QueueCounts()}, pruned={})

    assert set(exposed(quiet)) == set(exposed())


def test_scraper_gets_the_format_that_it_asks_for() -> None:
    plain = expose(NUMBERS, accept="*/*")
    modern = expose(NUMBERS, accept="application/openmetrics-text; version=1.0.0")

    assert plain.media_type.startswith("text/plain")
    assert modern.media_type.startswith("application/openmetrics-text")
    assert modern.body.endswith(b"# EOF\n")
