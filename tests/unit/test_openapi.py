from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import PATH_PARAMETER, Endpoint
from poussetaches.api.openapi import OpenApiRoutes, describe, problems_of
from poussetaches.core.queue import NAME_IN_WORDS, Name


class Shelf(msgspec.Struct, forbid_unknown_fields=True):
    """Where books stand."""

    name: Name
    since: Annotated[datetime, Meta(tz=True)] | None = None
    note: msgspec.Raw | UnsetType = UNSET


class Books(msgspec.Struct):
    """Some books."""

    titles: list[str]


class Search(msgspec.Struct, forbid_unknown_fields=True):
    """Which books."""

    author: str
    limit: Annotated[int, Meta(ge=1, le=10)] = 5
    lent: bool | None = None


async def handler(request: Request) -> Response:
    return Response()


def make_row(**overrides: Any) -> Endpoint:
    row: dict[str, Any] = {
        "method": "GET",
        "path": "/shelves/{name}",
        "handler": handler,
        "summary": "Show a shelf",
        "tag": "Shelves",
        "responses": {200: Shelf},
    }
    row |= overrides
    parameters = dict.fromkeys(PATH_PARAMETER.findall(row["path"]), Name)
    return Endpoint(**{"parameters": parameters, **row})


def operation_of(row: Endpoint, *, has_token: bool = False) -> dict[str, Any]:
    """Return the description of the only row."""
    [operations] = describe([row], has_token=has_token)["paths"].values()
    [operation] = operations.values()
    found: dict[str, Any] = operation
    return found


def statuses(row: Endpoint, *, has_token: bool = False) -> set[str]:
    return set(operation_of(row, has_token=has_token)["responses"])


def test_rows_at_one_path_stand_together() -> None:
    rows = [make_row(), make_row(method="DELETE", responses={204: None})]

    paths = describe(rows, has_token=False)["paths"]

    assert {path: set(operations) for path, operations in paths.items()} == {
        "/shelves/{name}": {"get", "delete"}
    }


def test_operation_has_a_name_of_its_own() -> None:
    rows = [make_row(), make_row(path="/shelves"), make_row(path="/"), make_row(method="PUT")]

    paths = describe(rows, has_token=False)["paths"]

    assert [one["operationId"] for path in paths.values() for one in path.values()] == [
        "get_shelves_name",
        "put_shelves_name",
        "get_shelves",
        "get_root",
    ]


def test_two_rows_for_one_operation_are_a_mistake() -> None:
    with pytest.raises(AssertionError, match="two endpoints"):
        describe([make_row(), make_row()], has_token=False)


def test_name_in_a_path_has_its_pattern_without_what_only_python_needs() -> None:
    [parameter] = operation_of(make_row())["parameters"]

    assert parameter == {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
            "description": NAME_IN_WORDS,
        },
    }


def test_query_is_unfolded_into_parameters() -> None:
    row = make_row(path="/books", query=Search, responses={200: Books})

    document = describe([row], has_token=False)

    assert document["paths"]["/books"]["get"]["parameters"] == [
        {"name": "author", "in": "query", "required": True, "schema": {"type": "string"}},
        {
            "name": "limit",
            "in": "query",
            "required": False,
            "schema": {"type": "integer", "minimum": 1, "maximum": 10, "default": 5},
        },
        {"name": "lent", "in": "query", "required": False, "schema": {"type": "boolean"}},
    ]
    assert "Search" not in document["components"]["schemas"]


def test_struct_is_described_as_it_is_read() -> None:
    document = describe([make_row(method="PUT", body=Shelf)], has_token=False)

    assert document["components"]["schemas"]["Shelf"] == {
        "title": "Shelf",
        "description": "Where books stand.",
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
                "description": NAME_IN_WORDS,
            },
            "since": {
                "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
                "default": None,
            },
            "note": {},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize("is_optional", [False, True])
def test_body_is_required_unless_it_may_be_left_out(is_optional: bool) -> None:
    row = make_row(method="POST", body=Shelf, body_is_optional=is_optional)

    assert operation_of(row)["requestBody"] == {
        "required": not is_optional,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Shelf"}}},
    }


def test_body_in_lines_is_described_as_text() -> None:
    types = ("application/json", "application/x-ndjson")
    row = make_row(method="POST", body=Shelf, body_media_types=types)

    assert operation_of(row)["requestBody"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Shelf"}},
        "application/x-ndjson": {"schema": {"type": "string"}},
    }


def test_answer_has_its_type_and_headers() -> None:
    row = make_row(
        method="POST",
        responses={201: Books, 204: None},
        response_headers={"Location": "Where it is"},
    )

    headers = {"Location": {"description": "Where it is", "schema": {"type": "string"}}}
    responses = operation_of(row)["responses"]
    assert responses["201"] == {
        "description": "Created",
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Books"}}},
    }
    assert responses["204"] == {"description": "No Content", "headers": headers}


def test_answer_may_be_text() -> None:
    row = make_row(responses={200: str}, response_media_type="text/plain")

    assert operation_of(row)["responses"]["200"]["content"] == {
        "text/plain": {"schema": {"type": "string"}}
    }


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, {"200", "421", "422", "500", "503"}),
        ({"ignores_unknown": True}, {"200", "421", "500", "503"}),
        ({"problems": (404,)}, {"200", "404", "421", "422", "500", "503"}),
        ({"query": Search}, {"200", "421", "422", "500", "503"}),
        (
            {"method": "POST"},
            {"200", "400", "403", "413", "421", "422", "500", "503", "507"},
        ),
        (
            {"method": "POST", "changes_nothing": True},
            {"200", "400", "403", "413", "421", "422", "500", "503"},
        ),
        (
            {"method": "PUT", "body": Shelf},
            {"200", "400", "403", "413", "421", "422", "500", "503", "507"},
        ),
        ({"path": "/healthz", "is_open": True}, {"200", "422", "500"}),
    ],
    ids=["read", "lenient", "own", "query", "write", "reading-post", "body", "health"],
)
def test_refusals_that_every_such_row_has_are_implied(
    overrides: dict[str, Any], expected: set[str]
) -> None:
    assert statuses(make_row(**overrides)) == expected


@pytest.mark.parametrize(
    ("overrides", "added"),
    [
        ({}, {401}),
        ({"method": "POST"}, {401}),
        ({"method": "POST", "changes_nothing": True}, {401}),
        ({"path": "/readyz", "is_open": True}, set()),
    ],
    ids=["read", "write", "reading-post", "health"],
)
def test_token_is_asked_for_where_one_is_needed(
    overrides: dict[str, Any], added: set[int]
) -> None:
    row = make_row(**overrides)

    with_token = set(problems_of(row, has_token=True))

    assert with_token - set(problems_of(row, has_token=False)) == added


def test_token_is_described_when_there_is_one() -> None:
    rows = [make_row(), make_row(path="/healthz", is_open=True)]

    document = describe(rows, has_token=True)

    assert document["security"] == [{"bearer": []}, {"basic": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "security" not in document["paths"]["/shelves/{name}"]["get"]
    assert "security" not in describe(rows, has_token=False)


def test_problem_that_passes_says_when_to_try_again() -> None:
    document = describe([make_row()], has_token=False)

    refusal = document["components"]["responses"]["ServiceUnavailable"]
    assert operation_of(make_row())["responses"]["503"] == {
        "$ref": "#/components/responses/ServiceUnavailable"
    }
    assert refusal["description"] == HTTPStatus.SERVICE_UNAVAILABLE.phrase
    assert refusal["headers"]["Retry-After"]["required"]
    assert refusal["content"] == {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
    }


def test_row_can_be_left_out_of_the_document() -> None:
    hidden = make_row(path="/hidden", is_described=False)
    document = OpenApiRoutes([make_row(), hidden], has_token=False).document()

    assert set(document["paths"]) == {"/shelves/{name}", "/openapi.json"}


def test_every_parameter_of_a_path_needs_a_type() -> None:
    with pytest.raises(AssertionError, match="/shelves"):
        make_row(parameters={})
