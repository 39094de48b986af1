"""The original's routes over real HTTP, row by row of docs/protocol.md."""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.acceptance.harness import (
    PATIENCE,
    Answer,
    Server,
    free_port,
    receiving,
    serving,
    wait_until,
)
from tests.factories import seeded

PAGE = 200  # tasks that the server reads at once for a listing
MINUTE = 60 * 10**9  # nanoseconds
URL = "http://app:5000/task"
LISTINGS = ("/waiting", "/success", "/dead", "/cron")
TYPES: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "url": (str,),
    "payload": (str,),
    "expected": (int,),
    "schedule": (str,),
    "next_run": (int,),
    "next_scheduled_run": (int,),
    "last_run": (int,),
    "tries": (int,),
    "last_error_status_code": (int,),
    "last_error_body": (str, type(None)),
}

MALFORMED = (400, "bad-json")
INVALID = (422, "invalid-task")
BAD_SCHEDULE = (422, "invalid-schedule")
TOO_LARGE = (413, "too-large")

serial = itertools.count()


class Client:
    """A persistent connection; it fails if the server closes it."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self._connection.connect()
        self._connection.auto_open = 0

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make a request and return its answer."""
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        answered = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, answered, response.read())

    def push(self, **fields: object) -> str:
        """Push a task and return its id."""
        answer = self.request("POST", "/", json.dumps({"url": URL, **fields}).encode())
        assert answer.status == 201, answer
        return answer.headers["poussetaches-task-id"]

    def bare(self, method: str, path: str) -> int:
        """Make a request without a single header besides Host; return its status."""
        self._connection.putrequest(method, path, skip_accept_encoding=True)
        self._connection.endheaders()
        response = self._connection.getresponse()
        response.read()
        return response.status

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


@contextmanager
def connected(server: Server) -> Iterator[Client]:
    client = Client(server)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def answering() -> Iterator[str]:
    """Run an application that fails with the body that is base64 in the path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = bodies[self.path]
            self.send_response(500)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    bodies = {f"/{name}": body for name, body in BODIES.items()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


BODIES = {
    "empty": b"",
    "text": "déjà vu".encode(),
    "not-utf-8": b"1\xe9 \xff\xfe",
    # 64 KiB are kept: here they end within a character.
    "cut": ("x" + "é" * 40_000).encode(),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that is paused, for all tests that look at what is kept."""
    with serving(tmp_path_factory.mktemp("paused") / "data", "--start-paused") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with connected(server) as client:
        yield client


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", "--start-paused") as server:
        yield server


@pytest.fixture(scope="module")
def delivering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that delivers, tries twice, and has small limits."""
    env = {
        "POUSSETACHES_ORIGINAL_MAX_ATTEMPTS": "2",
        "POUSSETACHES_ORIGINAL_MIN_BACKOFF": "0.02",
        "POUSSETACHES_ORIGINAL_JITTER": "0",
        "POUSSETACHES_MAX_REQUEST": "20000",
        "POUSSETACHES_MAX_BODY": "1000",
    }
    with serving(tmp_path_factory.mktemp("delivering") / "data", env=env) as server:
        yield server


def new_url() -> str:
    """Return a URL that no other test has."""
    return f"{URL}/{next(serial)}"


def b64(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


def entry(server: Server, listing: str, task_id: str) -> dict[str, Any]:
    """Return a task of a listing."""
    return next(task for task in server.listing(listing) if task["id"] == task_id)


def ended(server: Server, listing: str, task_id: str) -> dict[str, Any]:
    """Wait until a task is in a listing and return it."""
    wait_until(lambda: server.ids(listing), lambda ids: task_id in ids, f"{task_id} in {listing}")
    return entry(server, listing, task_id)


def check_shape(task: Mapping[str, Any]) -> None:
    """Check what every entry of a listing must be for the original's client."""
    assert set(task) == set(TYPES)
    assert {key for key in TYPES if not isinstance(task[key], TYPES[key])} == set()
    base64.b64decode(task["payload"], validate=True)
    if task["last_error_body"] is not None:
        base64.b64decode(task["last_error_body"], validate=True).decode("utf-8", "strict")
    # The client makes datetimes of them.
    for key in ("next_run", "next_scheduled_run", "last_run"):
        assert time.gmtime(task[key] / 1e9).tm_year < 10_000


def kept(client: Client) -> list[bytes]:
    """Return all tasks in the server's listings."""
    return [client.request("GET", path).body for path in LISTINGS]


def test_status_is_the_pause_and_what_is_in_flight(client: Client) -> None:
    answer = client.request("GET", "/")

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"paused": True, "in_flight": 0}


def test_status_counts_attempts_in_flight(delivering: Server) -> None:
    release = threading.Event()

    def hold(_: object) -> int:
        release.wait(PATIENCE)
        return 200

    with receiving(hold) as receiver:
        try:
            task = delivering.push(receiver.url)
            wait_until(lambda: receiver.deliveries, bool, "the delivery")

            assert delivering.request("GET", "/").json == {"paused": False, "in_flight": 1}
            assert task in delivering.ids("waiting")
        finally:
            release.set()
        ended(delivering, "success", task)


def test_push_is_answered_with_201_an_empty_body_and_the_task_id(client: Client) -> None:
    answer = client.request("POST", "/", json.dumps({"url": URL}).encode())

    assert answer.status == 201
    assert answer.body == b""
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["poussetaches-task-id"])


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "nonsense",
        "",
        None,
    ],
)
def test_push_may_have_any_content_type(client: Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = json.dumps({"url": URL, "payload": ""}).encode()

    assert client.request("POST", "/", body, headers).status == 201


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"payload": "", "expected": 0, "schedule": "", "delay": 0},
        {"payload": None, "expected": None, "schedule": None, "delay": None},
    ],
    ids=["missing", "zero", "null"],
)
def test_values_that_are_not_given_are_the_defaults(
    server: Server, client: Client, fields: dict[str, object]
) -> None:
    before = time.time_ns() // 1000 * 1000

    task = entry(server, "waiting", client.push(**fields))

    next_run = task.pop("next_run")
    assert before <= next_run <= time.time_ns()
    assert task == {
        "id": task["id"],
        "url": URL,
        "payload": "",
        "expected": 200,
        "schedule": "",
        "next_scheduled_run": next_run,
        "last_run": 0,
        "tries": 0,
        "last_error_status_code": 0,
        "last_error_body": None,
    }


def test_fields_that_are_not_known_mean_nothing(client: Client) -> None:
    client.push(colour="blue", next_run=1, tries=[7])


def test_unlike_tasks_are_never_taken_for_the_same(client: Client) -> None:
    ids = [client.push(payload=b64(b"same")) for _ in range(3)]

    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    "url",
    [
        "http://project_web_1:5005/api/task",
        "http://_web/",
        "https://example.org/a?b=c#d",
        "http://127.0.0.1:5000",
        "http://[::1]:5000/x",
    ],
)
def test_url_is_kept_as_it_was_pushed(server: Server, client: Client, url: str) -> None:
    assert entry(server, "waiting", client.push(url=url))["url"] == url


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_payload_may_have_line_breaks(server: Server, client: Client, line_end: str) -> None:
    payload = bytes(range(256))
    text = base64.encodebytes(payload).decode().replace("\n", line_end)

    task = entry(server, "waiting", client.push(payload=text))

    assert base64.b64decode(task["payload"], validate=True) == payload


def test_payload_and_expected_are_listed_as_they_were_pushed(
    server: Server, client: Client
) -> None:
    task = entry(server, "waiting", client.push(payload=b64(b"\0\xff"), expected=201))

    assert (task["payload"], task["expected"]) == (b64(b"\0\xff"), 201)


@pytest.mark.parametrize("delay", [2, 60 * 24 * 3, 5_256_000])
def test_delay_is_in_minutes(server: Server, client: Client, delay: int) -> None:
    before = time.time_ns() // 1000 * 1000

    task = entry(server, "waiting", client.push(delay=delay))

    assert before <= task["next_run"] - delay * MINUTE <= time.time_ns()


@pytest.mark.parametrize("expected", [100, 201, 404, 599])
def test_expected_is_any_status(server: Server, client: Client, expected: int) -> None:
    assert entry(server, "waiting", client.push(expected=expected))["expected"] == expected


def test_schedule_has_the_sha1_of_url_payload_and_expression_as_its_id(client: Client) -> None:
    url = new_url()

    task_id = client.push(url=url, payload=b64(b"\xffx"), schedule="@every 1h")

    digest = hashlib.sha1(url.encode() + b"\xffx" + b"@every 1h", usedforsecurity=False)
    assert task_id == digest.hexdigest()


def test_schedule_that_is_pushed_again_has_the_same_id_and_changes_nothing(
    server: Server, client: Client
) -> None:
    push = {"url": new_url(), "schedule": "@every 24h"}
    task_id = client.push(**push)
    first = entry(server, "cron", task_id)

    again = [client.push(**push, delay=delay, expected=201) for delay in (0, 5)]

    assert again == [task_id, task_id]
    assert [task for task in server.listing("cron") if task["id"] == task_id] == [first]


def test_schedule_is_listed_in_cron_and_among_the_waiting(server: Server, client: Client) -> None:
    before = time.time_ns() // 1000 * 1000

    task_id = client.push(url=new_url(), schedule="@every 1h", payload=b64(b"x"))

    task = entry(server, "cron", task_id)
    check_shape(task)
    assert entry(server, "waiting", task_id) == task
    assert (task["schedule"], task["payload"], task["tries"]) == ("@every 1h", b64(b"x"), 0)
    assert before <= task["next_run"] - 60 * MINUTE <= time.time_ns()
    assert task["next_scheduled_run"] == task["next_run"]


def test_delay_of_a_schedule_puts_off_its_first_run(server: Server, client: Client) -> None:
    before = time.time_ns() // 1000 * 1000

    task_id = client.push(url=new_url(), schedule="@every 1h", delay=30)

    next_run = entry(server, "cron", task_id)["next_run"]
    assert before <= next_run - 90 * MINUTE <= time.time_ns()


@pytest.mark.parametrize(
    "schedule",
    ["*/5 * * * *", "0 */5 * * * *", "0 0 29 2 *", "@daily", "@every 1h30m", "@every 90s"],
)
def test_schedule_of_every_kind_is_taken(client: Client, schedule: str) -> None:
    assert len(client.push(url=new_url(), schedule=schedule)) == 40


def test_delete_cron_drops_the_schedules_and_leaves_plain_tasks(
    server: Server, client: Client
) -> None:
    plain, scheduled = client.push(), client.push(url=new_url(), schedule="@hourly")

    answer = client.request("DELETE", "/cron")

    assert answer.status == 200
    assert server.listing("cron") == []
    waiting = server.ids("waiting")
    assert plain in waiting
    assert scheduled not in waiting


@pytest.mark.parametrize("path", ["/", *LISTINGS])
def test_head_is_answered_as_get(client: Client, path: str) -> None:
    answer = client.request("HEAD", path)

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "application/json"
    assert client.request("GET", path).status == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", {"GET", "HEAD", "POST"}),
        ("/waiting", {"GET", "HEAD"}),
        ("/success", {"GET", "HEAD"}),
        ("/dead", {"GET", "HEAD"}),
        ("/cron", {"GET", "HEAD", "DELETE"}),
        ("/pause", {"POST"}),
        ("/resume", {"POST"}),
        ("/healthz", {"GET", "HEAD"}),
        ("/readyz", {"GET", "HEAD"}),
    ],
)
def test_other_methods_are_answered_with_405_and_those_allowed(
    client: Client, path: str, allowed: set[str]
) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - allowed:
        answer = client.request(method, path)

        assert answer.status == 405
        assert set(answer.headers["allow"].split(", ")) == allowed
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["type"] == "urn:poussetaches:problem:method-not-allowed"


@pytest.mark.parametrize("path", ["/nothing", "/waiting/", "//", "/waiting/x", "/%00", "/é"])
def test_unknown_path_is_answered_with_404(client: Client, path: str) -> None:
    answer = client.request("GET", path.replace("é", "%C3%A9"))

    assert answer.status == 404
    assert answer.json["type"] == "urn:poussetaches:problem:not-found"


def test_pause_and_resume_need_neither_a_body_nor_a_header(delivering: Server) -> None:
    with connected(delivering) as client:
        for path, paused in (("/pause", True), ("/pause", True), ("/resume", False)):
            assert client.bare("POST", path) == 200
            assert client.request("GET", "/").json["paused"] is paused


def test_resume_of_a_running_server_does_no_harm_and_credentials_mean_nothing(
    delivering: Server,
) -> None:
    with connected(delivering) as client:
        answer = client.request("POST", "/resume", headers={"Authorization": "Basic Og=="})

        assert (answer.status, answer.body) == (200, b"")
        assert client.request("GET", "/").json["paused"] is False


def test_empty_listings_are_empty_lists(empty_server: Server) -> None:
    bodies = [empty_server.request("GET", path).json for path in LISTINGS]

    assert bodies == [{"tasks": []}] * 4


def test_success_after_a_failure_shows_both(delivering: Server) -> None:
    statuses = iter([503])
    before = time.time_ns() // 1000 * 1000

    with receiving(lambda _: next(statuses, 204)) as receiver:
        task = ended(delivering, "success", delivering.push(receiver.url, b"p", expected=204))

    check_shape(task)
    assert before <= task["last_run"] <= time.time_ns()
    assert (task["tries"], task["expected"], task["payload"]) == (2, 204, b64(b"p"))
    assert (task["last_error_status_code"], task["last_error_body"]) == (503, "")


@pytest.mark.parametrize(
    ("body", "listed"),
    [
        ("empty", ""),
        ("text", "déjà vu"),
        ("not-utf-8", "1\ufffd \ufffd\ufffd"),
        ("cut", "x" + "é" * 32_767),
    ],
)
def test_error_body_is_valid_utf_8_and_never_cut_within_a_character(
    delivering: Server, body: str, listed: str
) -> None:
    with answering() as url:
        task = ended(delivering, "dead", delivering.push(f"{url}/{body}"))

    check_shape(task)
    assert (task["tries"], task["last_error_status_code"]) == (2, 500)
    assert base64.b64decode(task["last_error_body"]).decode() == listed


def test_connection_error_is_minus_1_with_its_text(delivering: Server) -> None:
    task_id = delivering.push(f"http://127.0.0.1:{free_port()}/")

    task = wait_until(
        lambda: entry(delivering, "waiting", task_id),
        lambda task: task["last_error_status_code"] != 0,
        "the error",
    )

    check_shape(task)
    assert task["last_error_status_code"] == -1
    assert base64.b64decode(task["last_error_body"]).decode()


def test_long_listing_is_complete_and_sorted_with_its_schedules_among_the_tasks(
    empty_server: Server,
) -> None:
    random = seeded()
    with connected(empty_server) as client:
        # Several with the same delay, some later than all tasks.
        pushed = {client.push(delay=random.randrange(600)) for _ in range(2 * PAGE + 50)}
        schedules = {client.push(schedule=f"@every {hours}h") for hours in range(1, 15)}

        waiting = client.request("GET", "/waiting").json["tasks"]
        cron = client.request("GET", "/cron").json["tasks"]

    assert len(waiting) == len(pushed) + len(schedules)
    assert {task["id"] for task in waiting} == pushed | schedules
    assert {task["id"] for task in cron} == schedules
    for listing in (waiting, cron):
        times = [task["next_run"] for task in listing]
        assert times == sorted(times)
    for task in waiting:
        check_shape(task)


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, 2 * PAGE])
def test_listing_that_ends_with_a_page_is_complete(tmp_path: Path, count: int) -> None:
    with serving(tmp_path / "data", "--start-paused") as server, connected(server) as client:
        pushed = {client.push() for _ in range(count)}
        scheduled = client.push(schedule="@hourly")

        waiting = [task["id"] for task in server.listing("waiting")]

    assert set(waiting[:-1]) == pushed
    assert waiting[-1] == scheduled
    assert len(waiting) == count + 1


def test_long_listing_of_what_succeeded_is_complete_and_sorted(delivering: Server) -> None:
    with receiving() as receiver, connected(delivering) as client:
        pushed = {client.push(url=receiver.url) for _ in range(PAGE + 20)}
        found = wait_until(
            lambda: client.request("GET", "/success").json["tasks"],
            lambda tasks: pushed <= {task["id"] for task in tasks},
            "all to succeed",
        )

    times = [task["next_run"] for task in found]
    assert times == sorted(times)
    assert len(found) == len({task["id"] for task in found})


def with_url(**fields: object) -> bytes:
    return json.dumps({"url": URL, **fields}).encode()


def raw(text: str) -> bytes:
    """Return a push with JSON that json.dumps would not write."""
    return b'{"url": "http://app/", ' + text.encode() + b"}"


REFUSALS: dict[str, tuple[bytes, tuple[int, str], str | None]] = {
    "no body": (b"", MALFORMED, None),
    "broken JSON": (b'{"url": ', MALFORMED, None),
    "more than one value": (with_url() + b"{}", MALFORMED, None),
    "a form": (b"url=http://app/", MALFORMED, None),
    "not UTF-8": (b'{"url": "http://app/\xff"}', MALFORMED, None),
    "UTF-16": (json.dumps({"url": URL}).encode("utf-16"), MALFORMED, None),
    "half a pair in url": (b'{"url": "http://app/\\ud800"}', MALFORMED, None),
    "half a pair in schedule": (raw('"schedule": "\\ud800"'), MALFORMED, None),
    "NaN": (raw('"delay": NaN'), MALFORMED, None),
    "Infinity": (raw('"delay": -Infinity'), MALFORMED, None),
    "deep arrays": (raw(f'"x": {"[" * 50_000}{"]" * 50_000}'), MALFORMED, None),
    "deep objects": (raw('"x": ' + '{"a":' * 50_000), MALFORMED, None),
    "an array": (b"[]", INVALID, ""),
    "null": (b"null", INVALID, ""),
    "a number": (b"1", INVALID, ""),
    "a text": (b'"http://app/"', INVALID, ""),
    "no url": (b"{}", INVALID, "url"),
    "url null": (b'{"url": null}', INVALID, "url"),
    "url a number": (b'{"url": 1}', INVALID, "url"),
    "url empty": (b'{"url": ""}', INVALID, "url"),
    "url relative": (with_url(url="/task"), INVALID, "url"),
    "url without scheme": (with_url(url="app:5000/task"), INVALID, "url"),
    "url ftp": (with_url(url="ftp://app/task"), INVALID, "url"),
    "url file": (with_url(url="file:///etc/passwd"), INVALID, "url"),
    "url without host": (with_url(url="http:///task"), INVALID, "url"),
    "url with a space": (with_url(url="http://app/a b"), INVALID, "url"),
    "url with a line break": (with_url(url="http://app/\r\nX: y"), INVALID, "url"),
    "url with NUL": (with_url(url="http://app/\0"), INVALID, "url"),
    "url with port 0": (with_url(url="http://app:0/"), INVALID, "url"),
    "url with a port too high": (with_url(url="http://app:65536/"), INVALID, "url"),
    "url too long": (with_url(url=f"http://app/{'x' * 8192}"), INVALID, "url"),
    "payload an object": (with_url(payload={}), INVALID, "payload"),
    "payload not base64": (with_url(payload="?"), INVALID, "payload"),
    "payload without padding": (with_url(payload="YQ"), INVALID, "payload"),
    "payload URL-safe": (with_url(payload="_-8="), INVALID, "payload"),
    "payload with a space": (with_url(payload="YW Jj"), INVALID, "payload"),
    "payload not ASCII": (with_url(payload="é"), INVALID, "payload"),
    "expected 99": (with_url(expected=99), INVALID, "expected"),
    "expected 600": (with_url(expected=600), INVALID, "expected"),
    "expected -1": (with_url(expected=-1), INVALID, "expected"),
    "expected a text": (with_url(expected="200"), INVALID, "expected"),
    "expected a fraction": (with_url(expected=200.5), INVALID, "expected"),
    "expected true": (with_url(expected=True), INVALID, "expected"),
    "expected huge": (with_url(expected=10**400), INVALID, "expected"),
    "delay negative": (with_url(delay=-1), INVALID, "delay"),
    "delay over ten years": (with_url(delay=5_256_001), INVALID, "delay"),
    "delay beyond 64 bits": (with_url(delay=2**64), INVALID, "delay"),
    "delay huge": (with_url(delay=10**400), INVALID, "delay"),
    "delay a huge fraction": (raw('"delay": 1e400'), INVALID, "delay"),
    "delay a text": (with_url(delay="5"), INVALID, "delay"),
    "schedule a number": (with_url(schedule=5), INVALID, "schedule"),
    "schedule unknown": (with_url(schedule="often"), BAD_SCHEDULE, "schedule"),
    "schedule blank": (with_url(schedule="  "), BAD_SCHEDULE, "schedule"),
    "schedule of four fields": (with_url(schedule="* * * *"), BAD_SCHEDULE, "schedule"),
    "schedule out of range": (with_url(schedule="61 * * * *"), BAD_SCHEDULE, "schedule"),
    "schedule never": (with_url(schedule="0 0 30 2 *"), BAD_SCHEDULE, "schedule"),
    "schedule never, in seconds": (with_url(schedule="0 0 0 31 11 *"), BAD_SCHEDULE, "schedule"),
    "schedule unknown name": (with_url(schedule="@reboot"), BAD_SCHEDULE, "schedule"),
    "schedule every nothing": (with_url(schedule="@every 0s"), BAD_SCHEDULE, "schedule"),
    "schedule every fraction": (with_url(schedule="@every 1.5s"), BAD_SCHEDULE, "schedule"),
    "schedule every past": (with_url(schedule="@every -1s"), BAD_SCHEDULE, "schedule"),
    "schedule too long": (with_url(schedule="1," * 500), BAD_SCHEDULE, "schedule"),
    "payload too large": (with_url(payload=b64(b"x" * (2**20 + 1))), TOO_LARGE, None),
    "request too large": (with_url(x="x" * 3 * 2**20), TOO_LARGE, None),
}


@pytest.fixture(scope="module")
def kept_before(server: Server) -> list[bytes]:
    with connected(server) as client:
        return kept(client)


@pytest.mark.parametrize(("body", "kind", "field"), list(REFUSALS.values()), ids=list(REFUSALS))
def test_push_is_refused_as_a_whole_with_a_problem_that_names_the_field(
    client: Client, kept_before: list[bytes], body: bytes, kind: tuple[int, str], field: str | None
) -> None:
    status, code = kind

    answer = client.request("POST", "/", body)

    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["type"] == f"urn:poussetaches:problem:{code}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert [error["field"] for error in problem.get("errors", [])] == (
        [] if field is None else [field]
    )
    assert all(error["reason"] for error in problem.get("errors", []))
    assert kept(client) == kept_before


def test_body_over_the_setting_is_answered_with_413_and_the_connection_goes_on(
    delivering: Server,
) -> None:
    with connected(delivering) as client:
        assert client.request("POST", "/", b" " * 20_001).status == 413
        assert client.request("POST", "/", with_url(x="x" * 30_000)).status == 413
        assert client.request("POST", "/", with_url(payload=b64(b"x" * 1001))).status == 413
        assert client.request("GET", "/").status == 200


def test_body_of_exactly_the_limit_is_taken(empty_server: Server) -> None:
    with connected(empty_server) as client:
        task_id = client.push(payload=b64(b"x" * 2**20))

    payload = entry(empty_server, "waiting", task_id)["payload"]
    assert len(base64.b64decode(payload)) == 2**20


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
likely = {
    "url": st.sampled_from([URL, "https://a_b/é", "http://[::1]/", "http://a:x/", "//app"]),
    "payload": st.binary(max_size=40).map(b64) | st.text("AZaz09+/=\n ", max_size=9),
    "expected": st.integers(-1, 700),
    "schedule": st.sampled_from(["", "@daily", "@every 1h", "0 0 29 2 *", "0 0 31 4 *"])
    | st.text("0123456789*/-,?L#@ ", max_size=14)
    | st.lists(st.sampled_from(["*", "0", "*/7", "L", "1-5", "5#2"]), max_size=7).map(" ".join),
    "delay": st.integers(-1, 6_000_000),
}
pushes = st.fixed_dictionaries(
    {"url": likely["url"]},
    optional={name: likely[name] | anything for name in likely if name != "url"},
)
pushed_bodies = (
    st.tuples(pushes | pushes | anything, st.booleans()).map(
        lambda pair: json.dumps(pair[0], ensure_ascii=pair[1]).encode("utf-8", "surrogatepass")
    )
    | st.binary()
)


def test_push_of_anything_is_taken_or_refused_and_leaves_listings_readable(
    empty_server: Server,
) -> None:
    with connected(empty_server) as client:

        @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
        @given(pushed_bodies)
        def push(body: bytes) -> None:
            answer = client.request("POST", "/", body)

            assert answer.status in (201, 400, 413, 422)
            if answer.status == 201:
                assert answer.headers["poussetaches-task-id"]
            else:
                assert answer.json["type"].startswith("urn:poussetaches:problem:")

        push()

        for path in LISTINGS:
            for task in client.request("GET", path).json["tasks"]:
                check_shape(task)
        assert client.request("GET", "/healthz").status == 200
