"""The OpenAPI document, derived from the endpoints and their types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from poussetaches import __version__
from poussetaches.api.endpoint import JSON, Endpoint
from poussetaches.api.problems import FieldError
from poussetaches.core.progress_report import ATTEMPT_TOKEN

PATH = "/openapi.json"
PROBLEM_JSON = "application/problem+json"

DESCRIPTION = """\
Push tasks over HTTP. They are stored, and sent until they succeed or die.

Bodies are read as JSON regardless of their Content-Type. Errors are problem documents (RFC 9457),
also for requests that are not valid HTTP. An unsupported method of a path gets 405 with `Allow`.
HEAD is supported wherever GET is.
"""

Schema = dict[str, Any]

# In Python, $ also matches before a final newline, which our patterns exclude. In JSON Schema it
# does not.
_END = re.compile(r"\$\(\?!\\n\)$")
_REFERENCE = "#/components/schemas/{name}"
_WAITS = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE}


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """An error (RFC 9457)."""

    type: str  # urn:poussetaches:problem:…
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class OpenApiRoutes:
    """Serves the document, which is built at the first request."""

    def __init__(self, endpoints: Iterable[Endpoint], *, has_token: bool) -> None:
        self._endpoints = [each for each in (*endpoints, *self.endpoints()) if each.is_described]
        self._has_token = has_token
        self._encoded = b""

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path=PATH,
                handler=self.show,
                summary="This document",
                tag="Operations",
                responses={200: dict[str, Any]},
            )
        ]

    async def show(self, request: Request) -> Response:
        if not self._encoded:
            self._encoded = msgspec.json.encode(self.document())
        return Response(self._encoded, media_type=JSON)

    def document(self) -> Schema:
        """Return the document of all described endpoints, including its own."""
        return describe(self._endpoints, has_token=self._has_token)


def describe(endpoints: Sequence[Endpoint], *, has_token: bool) -> Schema:
    """Return the OpenAPI 3.1 document of some endpoints."""
    types = _Types(endpoints)
    paths: dict[str, Schema] = {}
    problems = sorted(
        {status for endpoint in endpoints for status in problems_of(endpoint, has_token=has_token)}
    )
    for endpoint in endpoints:
        operation = _operation(endpoint, types, has_token=has_token)
        operations = paths.setdefault(endpoint.path, {})
        assert endpoint.method.lower() not in operations, (
            f"two endpoints for one operation: {endpoint}"
        )
        operations[endpoint.method.lower()] = operation
    document: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "poussetaches", "version": __version__, "description": DESCRIPTION},
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
        "paths": paths,
        "components": {
            "schemas": types.components,
            "responses": {_problem_name(status): _problem(status, types) for status in problems},
        },
    }
    schemes: Schema = {"attempt": {"type": "apiKey", "in": "header", "name": ATTEMPT_TOKEN}}
    document["components"]["securitySchemes"] = schemes
    if has_token:
        schemes["bearer"] = {"type": "http", "scheme": "bearer"}
        schemes["basic"] = {"type": "http", "scheme": "basic"}
        document["security"] = [{"bearer": []}, {"basic": []}]
    return document


def _operation(endpoint: Endpoint, types: _Types, *, has_token: bool) -> Schema:
    operation: Schema = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "responses": {
            **{str(status): _success(endpoint, status, types) for status in endpoint.responses},
            **{
                str(status): {"$ref": f"#/components/responses/{_problem_name(status)}"}
                for status in problems_of(endpoint, has_token=has_token)
            },
        },
    }
    parameters = [*_path_parameters(endpoint, types), *_query_parameters(endpoint, types)]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = _request_body(endpoint, types)
    if endpoint.has_own_token:
        operation["security"] = [{"attempt": []}]
    elif has_token and endpoint.is_open:
        operation["security"] = []
    return operation


def problems_of(endpoint: Endpoint, *, has_token: bool) -> list[int]:
    """Return the error statuses of an endpoint, including those common to all endpoints."""
    statuses = {*endpoint.problems, HTTPStatus.INTERNAL_SERVER_ERROR}
    if endpoint.method != "GET":
        statuses.add(HTTPStatus.FORBIDDEN)  # pages of other origins, and the read-only token
        statuses |= {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
    if endpoint.body is not None or not endpoint.ignores_unknown:
        statuses.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    if not endpoint.is_open:
        statuses.add(HTTPStatus.SERVICE_UNAVAILABLE)
        if not endpoint.is_read_only:
            statuses.add(HTTPStatus.INSUFFICIENT_STORAGE)
        statuses.add(HTTPStatus.UNAUTHORIZED if has_token else HTTPStatus.MISDIRECTED_REQUEST)
    return sorted(map(int, statuses - set(endpoint.responses)))


def _operation_id(endpoint: Endpoint) -> str:
    words = re.findall(r"[a-z0-9]+", endpoint.path)
    return "_".join([endpoint.method.lower(), *(words or ["root"])])


def _path_parameters(endpoint: Endpoint, types: _Types) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": types.schema(kind)}
        for name, kind in endpoint.parameters.items()
    ]


def _query_parameters(endpoint: Endpoint, types: _Types) -> list[Schema]:
    if endpoint.query is None:
        return []
    struct = types.fields(endpoint.query)
    return [
        {
            "name": name,
            "in": "query",
            "required": name in struct["required"],
            "schema": _never_null(schema),
        }
        for name, schema in struct["properties"].items()
    ]


def _never_null(schema: Schema) -> Schema:
    """Return the schema of a query parameter, which is omitted instead of null."""
    if schema.get("default", ...) is None:
        schema = {name: value for name, value in schema.items() if name != "default"}
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if not kinds:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, "anyOf": kinds}


def _request_body(endpoint: Endpoint, types: _Types) -> Schema:
    content = {
        media_type: {
            # JSON Schema cannot describe NDJSON.
            "schema": types.schema(endpoint.body) if media_type == JSON else {"type": "string"}
        }
        for media_type in endpoint.body_media_types
    }
    return {"required": not endpoint.body_is_optional, "content": content}


def _success(endpoint: Endpoint, status: int, types: _Types) -> Schema:
    response: Schema = {"description": HTTPStatus(status).phrase}
    if endpoint.response_headers:
        response["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}}
            for name, meaning in endpoint.response_headers.items()
        }
    kind = endpoint.responses[status]
    if kind is not None:
        response["content"] = {endpoint.response_media_type: {"schema": types.schema(kind)}}
    return response


def _problem_name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


def _problem(status: int, types: _Types) -> Schema:
    response: Schema = {
        "description": HTTPStatus(status).phrase,
        "content": {PROBLEM_JSON: {"schema": types.schema(ProblemDocument)}},
    }
    if status in _WAITS:
        response["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before a retry",
                "schema": {"type": "integer", "minimum": 1},
                "required": True,
            }
        }
    return response


class _Types:
    """The JSON schemas of the queries, bodies and responses of endpoints."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        bodies: list[Any] = [ProblemDocument]
        queries: list[Any] = []
        for endpoint in endpoints:
            bodies += [endpoint.body, *endpoint.responses.values(), *endpoint.parameters.values()]
            queries.append(endpoint.query)
        kinds = [kind for kind in dict.fromkeys([*bodies, *queries]) if kind is not None]
        schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
        self._schemas = dict(zip(kinds, map(_with_patterns, schemas), strict=True))
        self._components = _with_patterns(components)
        # The structs of queries are described as parameters.
        only_queries = {_name(self._schemas[kind]) for kind in queries if kind is not None} - {
            _name(self._schemas[kind]) for kind in bodies if kind is not None
        }
        self.components = {
            name: schema for name, schema in self._components.items() if name not in only_queries
        }

    def schema(self, kind: Any) -> Schema:
        """Return the schema of a type, which may be a reference to a component."""
        schema: Schema = self._schemas[kind]
        return schema

    def fields(self, struct: Any) -> Schema:
        """Return the schema of a struct, never a reference."""
        schema: Schema = self._components[_name(self._schemas[struct])]
        return schema


def _name(schema: Schema) -> str:
    """Return the name of the component that a schema refers to."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _with_patterns(schema: Any) -> Any:
    """Return a schema with patterns in the syntax of JSON Schema."""
    match schema:
        case {"pattern": str(pattern)}:
            return {**schema, "pattern": _END.sub("$", pattern)}
        case dict():
            return {name: _with_patterns(value) for name, value in schema.items()}
        case list():
            return [_with_patterns(item) for item in schema]
        case _:
            return schema
