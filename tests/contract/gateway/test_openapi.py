"""The OpenAPI document is what the gateway does: its routes, its answers, its problems."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.web.middleware import ROUTES
from gateway.web.openapi import ANSWER, EXAMPLE, document
from gateway.web.problems import KINDS, MEDIA_TYPE
from tests.support.gateway.stand_ins import Bench, transaction

DOCUMENT = document()
SCHEMAS = DOCUMENT["components"]["schemas"]
TYPES: dict[str, Any] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    "object": (dict,), "array": (list,), "null": (type(None),),
}  # fmt: skip


def faults(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    """Return where a value breaks a JSON schema, as far as our document uses the language."""
    if "$ref" in schema:
        return faults(value, SCHEMAS[schema["$ref"].rsplit("/", 1)[-1]], at)
    if "anyOf" in schema:
        tried = [faults(value, each, at) for each in schema["anyOf"]]
        return [] if [] in tried else tried[0]
    kind = schema["type"]
    if not isinstance(value, TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        return [f"{at}: {value!r} is no {kind}"]
    found = []
    if value not in schema.get("enum", [value]):
        found.append(f"{at}: {value!r} is none of {schema['enum']}")
    if kind == "object":
        known = schema.get("properties", {})
        found += [
            f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value
        ]
        for name, each in value.items():
            if name in known:
                found += faults(each, known[name], f"{at}.{name}")
            elif schema.get("additionalProperties") is False:
                found.append(f"{at}.{name} is unknown")
    if kind == "array":
        for number, each in enumerate(value):
            found += faults(each, schema["items"], f"{at}[{number}]")
    return found


def test_the_check_finds_faults() -> None:
    assert faults(ANSWER, SCHEMAS["Answer"]) == []
    assert faults(ANSWER | {"decision": "MAYBE"}, SCHEMAS["Answer"])
    assert faults(ANSWER | {"score": "high"}, SCHEMAS["Answer"])
    assert faults({"more": 1} | ANSWER, SCHEMAS["Answer"])
    assert faults({}, SCHEMAS["Problem"])


def test_every_route_is_described_and_no_other() -> None:
    assert DOCUMENT["paths"].keys() == {route.path for route in ROUTES}
    for route in ROUTES:
        [operation] = DOCUMENT["paths"][route.path].values()
        assert (operation.get("security") == []) == (route.scope is None)


def test_examples_are_valid() -> None:
    async def scenario() -> None:
        assert faults(EXAMPLE, SCHEMAS["Transaction"]) == []
        Bench().reader.json(json.dumps(EXAMPLE))

    asyncio.run(scenario())


@pytest.mark.parametrize("late", [False, True])
def test_answers_are_as_described(late: bool) -> None:
    async def scenario() -> None:
        bench = Bench()
        if not late:
            bench.pipeline.answers = lambda sent: {
                "decision": "BLOCK",
                "rule_hits": ["r-1"],
                "reasons": [{"code": "r-1", "text": "too much", "contribution": None}],
            }
        headers = {"Request-Timeout-Ms": "20"}
        client = bench.client()
        answer = await client.post("/score-transaction", json=transaction(), headers=headers)
        assert answer.headers["content-type"] == "application/json"
        assert faults(answer.json(), SCHEMAS["Answer"]) == []
        assert answer.json()["fallback"] is late
        if not late:
            found = await client.get("/decisions/t-1")
            assert found.json() == answer.json()

    asyncio.run(scenario())


PROBLEMS = [
    ("POST", "/score-transaction", "{", 400),
    ("POST", "/score-transaction", '{"amount": -1}', 422),
    ("POST", "/score-transaction", " " * 5_000, 413),
    ("POST", "/score-transactions", " " * 70_000, 413),
    ("GET", "/decisions/unknown", "", 404),
    ("GET", "/decisions/" + "x" * 65, "", 422),
    ("GET", "/cards/unknown/features", "", 404),
    ("GET", "/cards/4111111111111111/features", "", 400),
]


@pytest.mark.parametrize(("method", "path", "content", "status"), PROBLEMS)
def test_problems_are_as_described(method: str, path: str, content: str, status: int) -> None:
    async def scenario() -> None:
        answer = await Bench().client().request(method, path, content=content)
        assert answer.status_code == status
        assert answer.headers["content-type"] == MEDIA_TYPE
        found = answer.json()
        assert faults(found, SCHEMAS["Problem"]) == []
        kind = found["type"].rsplit(":", 1)[-1]
        assert (found["status"], found["title"]) == (status, KINDS[kind][1])
        [described] = [
            operation["responses"]
            for each, operations in DOCUMENT["paths"].items()
            for operation in operations.values()
            if each.split("/")[1] == path.split("/")[1]
        ]
        assert str(status) in described

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/score-transaction", 405),
        ("DELETE", "/decisions/t-1", 405),
        ("GET", "/nothing", 404),
    ],
)
def test_what_the_framework_refuses_is_a_problem_too(method: str, path: str, status: int) -> None:
    async def scenario() -> None:
        answer = await Bench().client().request(method, path)
        assert answer.status_code == answer.json()["status"] == status
        assert faults(answer.json(), SCHEMAS["Problem"]) == []

    asyncio.run(scenario())
