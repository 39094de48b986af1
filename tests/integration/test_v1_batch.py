"""Batches of pushes over real HTTP, as a JSON document and line by line."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import PATIENCE, Answer, serving
from tests.integration.v1 import URL, Client, problem

MIB = 1024 * 1024
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("batch") / "data"
    with serving(folder, "--start-paused") as server:
        yield Client(server)


def push_lines(client: Client, *lines: object) -> Answer:
    body = b"\n".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
    )
    return client.send("POST", "/v1/tasks/batch", body, NDJSON)


def test_batch_of_a_document_keeps_all_in_their_order(client: Client) -> None:
    tasks = [{"url": URL, "json": number} for number in range(1000)]

    answer = client.post("/v1/tasks/batch", tasks=tasks)

    assert answer.status == 201
    assert set(answer.json) == {"ids", "existing"}
    ids = answer.json["ids"]
    assert answer.json["existing"] == []
    assert len(set(ids)) == 1000
    assert [client.task(ids[place])["json"] for place in (0, 500, 999)] == [0, 500, 999]


@pytest.mark.parametrize(
    "media_type",
    ["application/x-ndjson", "application/ndjson; charset=utf-8", "Application/JSONL"],
)
def test_batch_of_lines_keeps_all_in_their_order(client: Client, media_type: str) -> None:
    lines = [json.dumps({"url": URL, "text": f"n\u00e4{number}"}) for number in range(300)]
    body = "\r\n".join(["", *lines, "", ""]).encode()

    answer = client.send("POST", "/v1/tasks/batch", body, {"Content-Type": media_type})

    assert answer.status == 201
    ids = answer.json["ids"]
    assert len(ids) == 300
    assert client.task(ids[299])["text"] == "n\u00e4299"


def test_lines_may_come_in_pieces_of_any_size(client: Client) -> None:
    body = b"".join(
        json.dumps({"url": URL, "json": number}).encode() + b"\n" for number in range(20)
    )
    connection = http.client.HTTPConnection("127.0.0.1", client.server.port, timeout=PATIENCE)
    pieces = (body[start : start + 7] for start in range(0, len(body), 7))

    connection.request("POST", "/v1/tasks/batch", pieces, NDJSON, encode_chunked=True)
    answer = json.loads(connection.getresponse().read())
    connection.close()

    assert [client.task(task_id)["json"] for task_id in answer["ids"]] == list(range(20))


def test_batch_of_nothing_keeps_nothing(client: Client) -> None:
    assert client.post("/v1/tasks/batch", tasks=[]).json == {"ids": [], "existing": []}
    assert push_lines(client).json == {"ids": [], "existing": []}


def test_existing_tasks_are_listed_by_their_places(client: Client) -> None:
    known = client.push(key="known")

    answer = client.post(
        "/v1/tasks/batch",
        tasks=[{"url": URL}, {"url": URL, "key": "known"}, {"url": URL, "key": "new"}],
    )

    assert answer.json["existing"] == [1]
    assert answer.json["ids"][1] == known


def test_key_twice_in_one_batch_makes_one_task(client: Client) -> None:
    answer = push_lines(client, *[{"url": URL, "key": "twice"}] * 2)

    first, second = answer.json["ids"]
    assert first == second
    assert answer.json["existing"] == [1]


def test_batch_with_refused_tasks_keeps_none_and_names_them_all(client: Client) -> None:
    good, bad, worse = {"url": URL, "queue": "none"}, {"url": "ftp://a"}, {"color": "red"}

    document = client.post("/v1/tasks/batch", tasks=[good, bad, good, worse])
    lines = push_lines(client, good, bad, b"", worse)

    assert problem(document) == (422, "invalid-task", ["tasks[1].url", "tasks[3].color"])
    assert problem(lines) == (422, "invalid-task", ["line 2: url", "line 4: color"])
    assert "tasks[1].url" in document.json["detail"]
    assert client.ids("queue=none") == []


def test_no_more_than_twenty_refused_tasks_are_named(client: Client) -> None:
    _, _, fields = problem(client.post("/v1/tasks/batch", tasks=[{}] * 100))

    assert fields == [f"tasks[{place}].url" for place in range(20)]


def test_key_conflict_names_the_push(client: Client) -> None:
    client.push(key="conflict", json=1)
    other = {"url": URL, "key": "conflict", "json": 2, "queue": "none"}

    document = client.post("/v1/tasks/batch", tasks=[{"url": URL, "queue": "none"}, other])
    # The two have different queues: their keys have nothing to do with each other.
    assert document.status == 201
    lines = push_lines(client, {"url": URL, "queue": "void"}, b"", {**other, "queue": "default"})

    assert problem(lines) == (409, "key-conflict", ["line 3: key"])
    assert client.ids("queue=void") == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "bad-json", [])),
        (b'{"tasks": [', (400, "bad-json", [])),
        (b'{"tasks": [{"url": "\xff"}]}', (400, "bad-json", [])),
        (b"[]", (422, "invalid-task", [""])),
        (b"{}", (422, "invalid-task", ["tasks"])),
        (b'{"tasks": {}}', (422, "invalid-task", ["tasks"])),
        (b'{"tasks": [], "task": []}', (422, "invalid-task", ["task"])),
        (b'{"tasks": [[]]}', (422, "invalid-task", ["tasks[0]"])),
    ],
    ids=lambda value: str(value)[:40],
)
def test_document_that_is_no_batch_is_refused(
    client: Client, body: bytes, expected: tuple[int, str, list[str]]
) -> None:
    assert problem(client.send("POST", "/v1/tasks/batch", body)) == expected


@pytest.mark.parametrize(
    "line", [b"{", b"{'url': 1}", b'{"url": "\xff"}', b'{"url": "http://a", "json": "\xff"}']
)
def test_line_that_is_no_json_is_named(client: Client, line: bytes) -> None:
    answer = push_lines(client, {"url": URL}, line, {"url": URL})

    assert problem(answer)[:2] == (400, "bad-json")
    assert "line 2" in answer.json["detail"]


def test_more_than_ten_thousand_tasks_are_refused(client: Client) -> None:
    lines = [{"url": URL, "queue": "crowd"}] * 10_001

    assert problem(push_lines(client, *lines)) == (422, "invalid-task", ["tasks"])
    assert problem(client.post("/v1/tasks/batch", tasks=lines)) == (422, "invalid-task", ["tasks"])
    assert client.ids("queue=crowd") == []


def test_ten_thousand_tasks_are_taken(client: Client) -> None:
    answer = push_lines(client, *[{"url": URL}] * 10_000)

    assert (answer.status, len(answer.json["ids"])) == (201, 10_000)


@pytest.mark.parametrize(
    ("begin", "separator", "headers"),
    [(b'{"tasks":[', b",", {}), (b"", b"\n", NDJSON)],
    ids=["document", "lines"],
)
def test_batch_over_its_limit_is_read_and_refused(
    client: Client, begin: bytes, separator: bytes, headers: dict[str, str]
) -> None:
    task = json.dumps({"url": URL}).encode().ljust(MIB)

    answer = client.send("POST", "/v1/tasks/batch", begin + separator.join([task] * 65), headers)

    assert problem(answer)[:2] == (413, "too-large")
    assert "max_batch" in answer.json["detail"]


@pytest.mark.parametrize("headers", [{}, NDJSON], ids=["document", "lines"])
def test_task_that_is_longer_than_a_request_may_be_is_refused(
    client: Client, headers: dict[str, str]
) -> None:
    """This limits the bytes that are decoded at once."""
    answer = client.send("POST", "/v1/tasks/batch", b'{"tasks":[' + b" " * (5 * MIB), headers)

    assert problem(answer)[:2] == (413, "too-large")
    assert "max_request" in answer.json["detail"]


def test_task_that_is_too_large_is_named(client: Client) -> None:
    answer = push_lines(client, {"url": URL}, {"url": URL, "text": "a" * (MIB + 1)})

    assert problem(answer) == (413, "too-large", ["line 2: text"])


def test_third_batch_waits_until_one_of_two_is_over(client: Client) -> None:
    halves = [_half_a_batch(client), _half_a_batch(client)]
    with socket.create_connection(("127.0.0.1", client.server.port), PATIENCE) as third:
        third.sendall(_head(b'{"tasks": []}') + b'{"tasks": []}')
        third.settimeout(0.3)
        with pytest.raises(TimeoutError):
            third.recv(1)

        halves[0].close()

        third.settimeout(PATIENCE)
        assert third.recv(1000).startswith(b"HTTP/1.1 201")
    halves[1].close()


def test_other_pushes_are_answered_while_batches_come_in(client: Client) -> None:
    halves = [_half_a_batch(client), _half_a_batch(client)]

    assert client.push()
    for half in halves:
        half.close()


def _half_a_batch(client: Client) -> socket.socket:
    half = socket.create_connection(("127.0.0.1", client.server.port), PATIENCE)
    half.sendall(_head(b" " * 1000) + b'{"tasks": [')
    client.task(client.push(), "?wait=0.1")  # by now it is being read
    return half


def _head(body: bytes) -> bytes:
    return b"POST /v1/tasks/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )


def test_client_that_hangs_up_within_a_batch_leaves_nothing(
    client: Client, tmp_path: Path
) -> None:
    half = socket.create_connection(("127.0.0.1", client.server.port), PATIENCE)
    line = json.dumps({"url": URL, "queue": "cut"}).encode() + b"\n"
    half.sendall(
        b"POST /v1/tasks/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
        b"Content-Type: application/x-ndjson\r\n\r\n" + line
    )
    half.close()

    assert client.post("/v1/tasks/batch", tasks=[{"url": URL}]).status == 201
    assert client.ids("queue=cut") == []
