"""Answers of applications, and their meaning."""

from __future__ import annotations

import pytest

from poussetaches.core.moment import Moment
from poussetaches.core.task import Outcome
from poussetaches.engine.answer import MAX_BODY, Answer, outcome_of
from poussetaches.engine.secret_mask import SecretMask

NOW = Moment(1_789_999_200 * 1_000_000)  # Mon, 21 Sep 2026 14:00:00 GMT
URL = "http://app.test/send"


def read(
    status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"", *secrets: bytes
) -> Outcome:
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    answer = Answer(status, lambda name: lower.get(name.lower(), ""), body)
    return outcome_of(answer, url=URL, now=NOW, secret_mask=SecretMask(secrets))


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (429, "120", 120.0),
        (503, " 7 ", 7.0),
        (503, "Mon, 21 Sep 2026 14:01:00 GMT", 60.0),
        (503, "Mon, 21 Sep 2026 13:00:00 GMT", 0.0),
        (503, "soon", None),
        (503, "", None),
        (500, "120", None),
        (200, "120", None),
    ],
)
def test_retry_after_counts_on_429_and_503_only(
    status: int, value: str, seconds: float | None
) -> None:
    assert read(status, {"Retry-After": value}).retry_after == seconds


@pytest.mark.parametrize(("value", "refused"), [("no", True), (" No ", True), ("yes", False)])
def test_answer_may_refuse_the_task_for_good(value: str, refused: bool) -> None:
    assert read(500, {"Poussetaches-Retry": value}).refused is refused


def test_long_body_is_cut() -> None:
    outcome = read(500, None, b"x" * (MAX_BODY + 1))

    assert (outcome.body, outcome.truncated) == (b"x" * MAX_BODY, True)


def test_secrets_are_masked_in_body_and_location() -> None:
    outcome = read(
        302, {"Location": "/login/hunter2-hunter2"}, b"hunter2-hunter2", b"hunter2-hunter2"
    )

    assert outcome.body == b"***"
    assert outcome.redirect == "a redirect to /login/***, and redirects are not followed"


def test_location_counts_with_a_redirect_only() -> None:
    assert read(201, {"Location": "/things/1"}).redirect is None
    assert read(302).redirect is None
