from __future__ import annotations

import pytest

from poussetaches.engine.redirect import LONGEST_LOCATION, redirect_error

URL = "http://app.test:5000/run?x=1"
NOT_FOLLOWED = "and redirects are not followed"


@pytest.mark.parametrize(
    ("url", "location", "error"),
    [
        (URL, "/login", f"a redirect to /login, {NOT_FOLLOWED}"),
        (URL, "https://login.test/", f"a redirect to https://login.test/, {NOT_FOLLOWED}"),
        (
            URL,
            "/run/?x=1",
            f"a redirect to /run/?…, {NOT_FOLLOWED}: write the URL with a slash at the end of its"
            " path",
        ),
        (
            "http://app.test/run/",
            "http://app.test/run",
            f"a redirect to http://app.test/run, {NOT_FOLLOWED}: write the URL without the slash"
            " at the end of its path",
        ),
        (
            "http://app.test/run",
            "https://app.test/run",
            f"a redirect to https://app.test/run, {NOT_FOLLOWED}: write the URL with https",
        ),
        (
            "http://app.test:8000",
            "https://APP.test/",
            f"a redirect to https://APP.test/, {NOT_FOLLOWED}: write the URL with https",
        ),
        (URL, "http://[", f"a redirect to http://[, {NOT_FOLLOWED}"),
    ],
    ids=["login", "elsewhere", "slash", "no slash", "https", "https and a port", "no URL"],
)
def test_location_is_named_with_the_usual_mistake(url: str, location: str, error: str) -> None:
    assert redirect_error(url, location) == error


@pytest.mark.parametrize(
    "location",
    [
        "https://user:secret@login.test/?token=secret#secret",
        "//secret@login.test/#secret?x",
        "/login?next=%2Frun%3Ftoken%3Dsecret",
        "?token=secret",
        "/login#token=secret",
    ],
)
def test_user_query_and_fragment_of_a_location_are_not_shown(location: str) -> None:
    assert "secret" not in redirect_error(URL, location)


def test_location_is_one_printable_line_of_bounded_length() -> None:
    error = redirect_error(URL, "/a\x1b[31m\u202e\n" + "b" * 1000)

    assert error.isprintable()
    assert len(error) < LONGEST_LOCATION + 100
