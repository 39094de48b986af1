"""Filters over real HTTP: every condition, in lists and in bulk edits alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.acceptance.harness import Delivery, receiving, serving, wait_until
from tests.integration.v1 import URL, Client, problem

LONG_AGO, FAR_AHEAD = "2001-01-01T00:00:00Z", "2100-01-01T00:00:00Z"


class World(Mapping[str, str]):
    """A server with one task of each kind, and their ids by name."""

    def __init__(self, client: Client, app_url: str) -> None:
        self.client = client
        push = client.push
        self._ids = {
            "plain": push(),
            "mail": push(queue="mail", labels={"tenant": "a", "kind": "x:y"}, key="mail-1"),
            "other": push(queue="mail", labels={"tenant": "b"}, url="http://other.test/Caf%C3%A9"),
            "cancelled": client.cancelled(labels={"tenant": "a"}),
            "succeeded": push(url=app_url + "/ok"),
            "refused": push(url=app_url + "/fail/17", retry={"dead_on": [500]}),
            "failing": push(url=app_url + "/fail/18", retry={"min_backoff": 3600}),
        }
        for name in ("succeeded", "refused", "failing"):
            self._run(self._ids[name])

    def __getitem__(self, name: str) -> str:
        return self._ids[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def names(self, ids: list[str]) -> set[str]:
        """Return the names of tasks."""
        by_id = {task_id: name for name, task_id in self._ids.items()}
        return {by_id[task_id] for task_id in ids}

    def _run(self, task_id: str) -> None:
        self.client.post(f"/v1/tasks/{task_id}/run")
        wait_until(
            lambda: self.client.task(task_id)["attempt_count"],
            lambda count: count == 1,
            "its attempt",
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    def answer(delivery: Delivery) -> int:
        return 500 if delivery.path.startswith("/fail") else 200

    folder = tmp_path_factory.mktemp("filters") / "data"
    with receiving(answer) as app, serving(folder, "--start-paused") as server:
        yield World(Client(server), app.url)


ALL = {"plain", "mail", "other", "cancelled", "succeeded", "refused", "failing"}
CONDITIONS: list[tuple[dict[str, object], set[str]]] = [
    ({}, ALL),
    ({"ids": "{mail},{plain},unknown"}, {"mail", "plain"}),
    ({"ids": ""}, set()),
    ({"state": "waiting"}, {"plain", "mail", "other", "failing"}),
    ({"state": "dead,succeeded"}, {"cancelled", "refused", "succeeded"}),
    ({"failing": "true"}, {"failing"}),
    ({"queue": "mail"}, {"mail", "other"}),
    ({"queue": "unknown"}, set()),
    ({"label": "tenant:a"}, {"mail", "cancelled"}),
    ({"label": ["tenant:a", "kind:x:y"]}, {"mail"}),
    ({"label": "tenant:"}, set()),
    ({"url": "http://other.test/"}, {"other"}),
    ({"url": "http://other.test/%"}, set()),
    ({"key": "mail-1"}, {"mail"}),
    ({"schedule": "daily"}, set()),
    ({"reason": "refused"}, {"refused"}),
    ({"reason": "cancelled"}, {"cancelled"}),
    ({"text": "other.test"}, {"other"}),
    ({"text": "x:y"}, {"mail"}),
    ({"text": "%"}, {"other"}),
    ({"since": LONG_AGO}, ALL),
    ({"until": LONG_AGO}, set()),
    ({"since": FAR_AHEAD}, set()),
    ({"ended_since": LONG_AGO}, {"cancelled", "succeeded", "refused"}),
    ({"ended_until": LONG_AGO}, set()),
    ({"queue": "mail", "label": "tenant:b", "state": "waiting"}, {"other"}),
    ({"queue": "mail", "state": "dead"}, set()),
]


@pytest.mark.parametrize(
    ("conditions", "names"), CONDITIONS, ids=[str(conditions) for conditions, _ in CONDITIONS]
)
def test_condition_selects_the_same_in_lists_and_in_bulk(
    world: World, conditions: dict[str, object], names: set[str]
) -> None:
    if isinstance(conditions.get("ids"), str):
        conditions = {"ids": str(conditions["ids"]).format(**world)}

    listed = world.client.ids(urlencode(conditions, doseq=True))
    in_json = {**conditions, **({"failing": True} if "failing" in conditions else {})}
    bulk = world.client.post("/v1/tasks/delete", filter=in_json, all=True, dry_run=True)

    assert world.names(listed) == names
    assert bulk.json == {"count": len(names), "skipped": []}


def test_list_is_newest_first_in_pages_without_gaps(world: World) -> None:
    ids = list(world.values())

    assert world.client.ids("limit=2") == ids[::-1]
    page = world.client.get("/v1/tasks?limit=3").json
    assert [task["id"] for task in page["tasks"]] == ids[:-4:-1]
    assert page["next_cursor"]


def test_list_shows_neither_body_nor_headers(world: World) -> None:
    for task in world.client.get("/v1/tasks").json["tasks"]:
        assert {"headers", "json", "text", "body_base64", "attempts"} & set(task) == set()


def test_failures_are_grouped_and_groups_can_be_filtered_by(world: World) -> None:
    [dead] = [
        group
        for group in world.client.get("/v1/failures?state=dead").json["groups"]
        if group["status"] == 500
    ]
    [failing] = world.client.get("/v1/failures?state=failing").json["groups"]

    assert set(dead) == {
        *("group", "queue", "url_path", "status", "error", "count", "first_at", "last_at"),
        "example_id",
    }
    assert (dead["url_path"], dead["count"]) == ("/fail/*", 1)
    assert (dead["example_id"], failing["example_id"]) == (world["refused"], world["failing"])
    assert dead["group"] == failing["group"]
    assert world.names(world.client.ids(f"group={dead['group']}")) == {"refused", "failing"}
    assert world.names(world.client.ids(f"group={dead['group']}&state=dead")) == {"refused"}
    assert (
        world.client.get("/v1/failures").json == world.client.get("/v1/failures?state=dead").json
    )


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("color=red", "invalid-query", "color"),
        ("limit=0", "invalid-query", "limit"),
        ("limit=1001", "invalid-query", "limit"),
        ("limit=many", "invalid-query", "limit"),
        ("limit=1&limit=2", "invalid-query", "limit"),
        ("cursor=nonsense", "invalid-query", "cursor"),
        ("cursor=-1", "invalid-query", "cursor"),
        ("cursor=ffffffffffffffff", "invalid-query", "cursor"),
        ("cursor=" + "1" * 21, "invalid-query", "cursor"),
        ("queue=" + quote("a b"), "invalid-filter", "queue"),
        ("since=yesterday", "invalid-filter", "since"),
        ("since=2026-01-01T00:00:00", "invalid-filter", "since"),
        ("reason=tired", "invalid-filter", "reason"),
        ("failing=maybe", "invalid-filter", "failing"),
        ("text=", "invalid-filter", "text"),
        ("state=dead&state=waiting", "invalid-filter", "state"),
        ("state=failing", "invalid-filter", "state"),
        ("state=", "invalid-filter", "state"),
        ("label=tenant", "invalid-filter", "label"),
        ("ids=" + ",".join(map(str, range(10_001))), "invalid-filter", "ids"),
    ],
    ids=lambda value: value[:30],
)
def test_query_that_is_not_allowed_is_refused_by_name(
    world: World, query: str, code: str, field: str
) -> None:
    answer = world.client.get(f"/v1/tasks?{query}")

    assert problem(answer) == (422, code, [field])


def test_failures_of_another_state_are_refused(world: World) -> None:
    answer = world.client.get("/v1/failures?state=succeeded")

    assert problem(answer) == (422, "invalid-query", ["state"])


def test_text_is_found_however_far_back(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--start-paused") as server:
        client = Client(server)
        wanted = client.push(labels={"note": "needle"})
        for _ in range(3):
            client.post("/v1/tasks/batch", tasks=[{"url": URL}] * 10_000)

        page = client.get("/v1/tasks?text=needle").json

        assert [task["id"] for task in page["tasks"]] == [wanted]
        assert page["next_cursor"] is None
