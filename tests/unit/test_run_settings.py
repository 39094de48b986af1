"""The settings that ``poussetaches run`` adds for the application beside it."""

from __future__ import annotations

from poussetaches.cli.run import completed
from poussetaches.settings import load_settings

COMMAND = ["gunicorn", "--bind", "127.0.0.1:8123", "app:app"]
URL = "http://127.0.0.1:8123"


def test_application_may_be_sent_to_where_targets_are_limited() -> None:
    settings = load_settings({"allow_target": ["api.example.com"]}, {}, None)

    found = completed(settings, [COMMAND], [URL])

    assert found.queue.base_url == URL
    assert found.security.allow_target == ("api.example.com", "127.0.0.1:8123")


def test_targets_stay_unlimited_when_nothing_limits_them() -> None:
    assert completed(load_settings({}, {}, None), [COMMAND], [URL]).security.allow_target == ()
