"""Unexpected values: each is accepted or refused with a reason, and none harms the server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.acceptance.harness import Server
from tests.integration.v1 import URL, Client, problem


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server)


def push_text(client: Client, text: str | bytes) -> tuple[int, str]:
    """Push these bytes as a body; return the status and the code of the problem, if any."""
    body = text if isinstance(text, bytes) else text.encode()
    answer = client.send("POST", "/v1/tasks", body)
    return (answer.status, "") if answer.status == 201 else problem(answer)[:2]


NUMBERS = [
    *("1e400", "-1e400", "1" + "0" * 400, "-" + "9" * 400, "-0", "-0.0", "9223372036854775808"),
    *("18446744073709551616", "1e-400", "0." + "0" * 400 + "1", "1E+2", "4.9e-324"),
]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("field", ["delay", "priority", "timeout", "key_ttl"])
def test_enormous_number_is_accepted_or_refused(client: Client, field: str, number: str) -> None:
    given = f'{{"url": "{URL}", "key": "{field}{number[:100]}", "{field}": {number}}}'

    assert push_text(client, given) in [(201, ""), (422, "invalid-task"), (400, "bad-json")]


@pytest.mark.parametrize("number", NUMBERS)
def test_enormous_number_in_a_body_is_sent_unchanged(client: Client, number: str) -> None:
    answer = client.send("POST", "/v1/tasks", f'{{"url": "{URL}", "json": [{number}]}}'.encode())

    assert answer.status == 201
    shown = client.get(f"/v1/tasks/{answer.json['id']}").body.decode()
    assert f"[{number}]" in shown


@pytest.mark.parametrize("number", [*NUMBERS, "nan", "inf", "-inf", "Infinity", "0x10", "1_0"])
@pytest.mark.parametrize("query", ["/v1/tasks?limit=", "/v1/stats?minutes="])
def test_enormous_number_in_a_query_is_accepted_or_refused(
    client: Client, query: str, number: str
) -> None:
    answer = client.get(query + number.replace("+", "%2B"))

    assert answer.status == 200 or problem(answer)[:2] == (422, "invalid-query")


NOT_JSON = {
    "NaN": '{"url": "http://a/", "json": NaN}',
    "Infinity": '{"url": "http://a/", "delay": Infinity}',
    "brackets within": '{"url": "http://a/", "json": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "bytes": b'{"url": "http://a/", "text": "\xff"}',
    "surrogate in UTF-8": b'{"url": "http://a/", "text": "\xed\xa0\x80"}',
    "UTF-16": '{"url": "http://a/"}'.encode("utf-16"),
    "NUL": "\0",
    "comment": '{"url": "http://a/"} // a task',
    "two values": '{"url": "http://a/"} {}',
    "raw line feed": '{"url": "http://a/", "text": "a\nb"}',
    "nothing": "",
}


@pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON)
def test_invalid_json_is_refused(client: Client, text: str | bytes) -> None:
    assert push_text(client, text) == (400, "bad-json")


# The outermost array has the wrong type, or the outermost name is unknown.
WRONG_FROM_THE_START = {"brackets": "[" * 100_000, "objects": '{"a":' * 100_000}
ALL = NOT_JSON | WRONG_FROM_THE_START


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("PUT", "/v1/queues/odd"), ("PATCH", "/v1/queues/odd"), ("PUT", "/v1/schedules/odd")],
        *[("PUT", "/v1/schedules"), ("POST", "/v1/schedules/preview"), ("POST", "/v1/tasks/run")],
        *[("POST", "/v1/tasks/batch"), ("POST", "/")],
    ],
)
def test_invalid_json_is_refused_by_every_endpoint(
    client: Client, method: str, path: str, text: str | bytes
) -> None:
    body = text if isinstance(text, bytes) else text.encode()

    assert 400 <= client.send(method, path, body).status < 500


def test_body_nested_too_deeply_is_refused_with_its_field(client: Client) -> None:
    body = '{"url": "http://a/", "json": ' + "[" * 65 + "]" * 65 + "}"

    assert push_text(client, body) == (422, "invalid-task")


def test_last_value_of_a_repeated_field_counts(client: Client) -> None:
    text = '{"url": "http://first.test/", "priority": 1, "url": "http://last.test/"}'

    answer = client.send("POST", "/v1/tasks", text.encode())

    assert answer.json["url"] == "http://last.test/"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_invalid_time_zone_is_refused_for_intervals_too(client: Client, method: str) -> None:
    """Such a time zone was stored once, and made the schedule unreadable."""
    every = {"cron": "@every 90s", "task": {"url": URL}}
    assert client.put("/v1/schedules/every", **every).status in (200, 201)

    changed = json.dumps(every | {"timezone": "Mars/North"}).encode()
    answer = client.send(method, "/v1/schedules/every", changed)

    assert problem(answer) == (422, "invalid-schedule", ["timezone"])
    assert client.get("/v1/schedules/every").status == 200


BREAKS = ["\r\nX-Evil: 1", "\n", "\r", "\0", "\x0b", "\x7f", "\x85", "\u2028", "é", "\ud800"]


@pytest.mark.parametrize("text", BREAKS, ids=ascii)
@pytest.mark.parametrize("where", ["name", "value"])
def test_header_with_a_line_end_is_refused(client: Client, where: str, text: str) -> None:
    headers = {"X-A" + text: "a"} if where == "name" else {"X-A": "a" + text}

    status, code = push_text(client, json.dumps({"url": URL, "headers": headers}))

    assert (status, code) in [(422, "invalid-task"), (400, "bad-json")]


URLS = [
    *("http://a\\b/", "http://a/\\b", "http://a\tb/", "http:/\t/a/", "http://a/ b", " http://a/"),
    *(
        "http://a/\r\nX: 1",
        "http://a/\0",
        "http://a\u3002b/",
        "http://é.example/",
        "http://\uff41/",
    ),
    *("http://user@evil\\@a/", "http://a:b@c@d:e/", "http://[::1", "http://[::1]x/", "http://[/"),
    *("http://[::1%25eth0]/", "http://0x7f.1/", "http://2130706433/", "http://127.1/"),
    *(
        "http://017700000001/",
        "http://a:99999/",
        "http://a:-1/",
        "http://a:+80/",
        "http://a:8\uff10/",
    ),
    *("http:a", "http:///a", "//a/b", "ftp://a/", "javascript:alert(1)", "file:///etc/passwd"),
    *("http://", "http://:80/", "http://#a", "http://?a", "http://a..b/", "http://-a/"),
    *(
        "http://" + "a" * 300 + "/",
        "http://a%00b/",
        "http://a%2eb/",
        "http://\u202ea/",
        "http://a;b/",
    ),
]


@pytest.mark.parametrize("url", URLS, ids=ascii)
@pytest.mark.parametrize("field", ["url", "on_dead"])
def test_url_that_parsers_read_differently_is_refused(
    client: Client, field: str, url: str
) -> None:
    status, code = push_text(client, json.dumps({"url": URL, field: url}))

    assert (status, code) == (422, "invalid-task"), url


def odd_paths() -> Iterator[tuple[str, str]]:
    for text in ("%ff%fe", "%00", "%ed%a0%80", "%0d%0a", "a" * 5000, "%2e%2e", "'%20OR%201=1"):
        for path in ("/v1/tasks/{}", "/v1/queues/{}", "/v1/schedules/{}", "/v1/schedules/{}/runs"):
            for method in ("GET", "DELETE"):
                yield method, path.format(text)
        for field in ("queue", "text", "label", "url", "key", "group", "cursor", "ids", "since"):
            yield "GET", f"/v1/tasks?{field}={text}"


@pytest.mark.parametrize(("method", "path"), list(odd_paths()))
def test_odd_text_in_an_address_is_answered(client: Client, method: str, path: str) -> None:
    answer = client.send(method, path)

    assert 200 <= answer.status < 500


@pytest.mark.parametrize(
    "name",
    ["Host", "Traceparent", "Content-Type", "Accept", "Authorization", "Last-Event-ID", "Origin"],
)
def test_header_of_bytes_is_answered(client: Client, name: str) -> None:
    answer = client.send("POST", "/v1/tasks/batch", b'{"tasks": []}', {name: "\xff\xfe\x80"})

    assert 200 <= answer.status < 500
