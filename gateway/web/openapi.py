"""The OpenAPI document. Its fields come from the Avro schemas, so that the two cannot diverge."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from gateway.scoring.reading import MAX_DEADLINE_MS
from gateway.web.middleware import (
    CARD,
    DECISION,
    HEALTHY,
    METRICS,
    OPENAPI,
    READY,
    SCORE_MANY,
    SCORE_ONE,
)
from gateway.web.problems import KINDS, MEDIA_TYPE
from schemas.codec import avro as codec

Json = dict[str, Any]
_PLAIN: Final[dict[str, Json]] = {
    "string": {"type": "string"},
    "int": {"type": "integer"},
    "long": {"type": "integer"},
    "double": {"type": "number"},
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
}
EXAMPLE: Final[Json] = {
    "transaction_id": "t-1",
    "event_time": "2025-03-01T12:00:00Z",
    "card_id": "card-7",
    "merchant_id": "shop-3",
    "amount": 1234,
    "currency": "EUR",
    "channel": "ECOM",
    "device_id": "d-9",
    "ip": "192.0.2.7",
}
ANSWER: Final[Json] = {
    "transaction_id": "t-1",
    "card_id": "card-7",
    "decision": "BLOCK",
    "score": 0.981,
    "anomaly_score": 0.64,
    "reasons": [
        {"code": "amount_to_card_mean", "text": "the amount is far above the card's mean",
         "contribution": 2.31}
    ],
    "rule_hits": [],
    "model_id": "fraud-20250301",
    "model_role": "CHAMPION",
    "policy_version": "default",
    "duplicate": False,
    "late": False,
    "degraded": None,
    "kind": "PURCHASE",
    "unread": [],
    "position": {"partition": 2, "offset": 4711},
    "received_at": 1740830400123,
    "decided_at": 1740830400127,
    "fallback": False,
    "recorded": True,
}  # fmt: skip
_OWN: Final[Json] = {
    "position": {
        "description": "position on the topic `transactions`; null in a fallback",
        "anyOf": [
            {
                "type": "object",
                "properties": {"partition": {"type": "integer"}, "offset": {"type": "integer"}},
                "required": ["partition", "offset"],
            },
            {"type": "null"},
        ],
    },
    "received_at": {
        "description": "ms since the epoch; null in a fallback",
        "anyOf": [{"type": "integer"}, {"type": "null"}],
    },
    "decided_at": {"description": "ms since the epoch", "type": "integer"},
    "fallback": {
        "description": "true if the policy's fallback replaces a decision that was not made in "
        "time; GET /decisions/{transaction_id} returns the decision once it is made",
        "type": "boolean",
    },
    "recorded": {
        "description": "false if Kafka has not yet acknowledged the transaction; the gateway keeps "
        "it and sends it as soon as possible",
        "type": "boolean",
    },
}
_LEFT_OUT: Final = frozenset(
    ("source_partition", "source_offset", "merchant_id", "event_time", "amount", "currency",
     "shadows", "computed_at")
)  # fmt: skip


def _schema(avro: Any) -> Json:
    """Return the JSON schema of an Avro type."""
    if isinstance(avro, str):
        return dict(_PLAIN[avro])
    if isinstance(avro, list):
        return {"anyOf": [_schema(each) for each in avro]}
    kind = avro["type"]
    if kind == "enum":
        return {"type": "string", "enum": avro["symbols"]}
    if kind == "map":
        return {"type": "object", "additionalProperties": _schema(avro["values"])}
    if kind == "array":
        return {"type": "array", "items": _schema(avro["items"])}
    return _object(avro)


def _object(avro: Any) -> Json:
    fields = avro["fields"]
    return {
        "type": "object",
        "properties": {
            field["name"]: {"description": field.get("doc", ""), **_schema(field["type"])}
            for field in fields
        },
        "required": [field["name"] for field in fields if "default" not in field],
        "additionalProperties": False,
    }


def _transaction() -> Json:
    schema = _object(codec.raw_schema("Transaction"))
    times = schema["properties"]["event_time"]
    times.pop("type")
    times["anyOf"] = [{"type": "integer"}, {"type": "string", "format": "date-time"}]
    return schema | {"example": EXAMPLE}


def _answer() -> Json:
    schema = _object(codec.raw_schema("Decision"))
    properties = {
        name: each for name, each in schema["properties"].items() if name not in _LEFT_OUT
    } | _OWN
    return schema | {"properties": properties, "required": list(properties), "example": ANSWER}


def _problem() -> Json:
    fault = {"field": {"anyOf": [{"type": "string"}, {"type": "null"}]}}
    return {
        "description": "RFC 9457",
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {
                "description": "the invalid fields, at most 20, with the reason",
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": fault | {"reason": {"type": "string"}},
                },
            },
            "transaction_id": {"type": "string"},
            "line": {"description": "line of the batch, counted from 1", "type": "integer"},
        },
        "required": ["type", "title", "status", "detail"],
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(name: str, media_type: str = "application/json") -> Json:
    return {"content": {media_type: {"schema": _ref(name)}}}


def _answers(good: Json, *kinds: str) -> Json:
    found: Json = {"200": good}
    for kind in ("unauthorized", "forbidden", "internal", *kinds):
        status, title = KINDS[kind]
        found[str(status)] = {"description": title, **_body("Problem", MEDIA_TYPE)}
    return dict(sorted(found.items()))


_SCORING: Final = (
    "bad-request", "too-slow", "conflict", "too-large", "unsupported-encoding",
    "invalid-transaction", "rate-limit", "unavailable",
)  # fmt: skip
_TIMEOUT: Final[Json] = {
    "name": "Request-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "deadline of this request in ms, counted from the end of its body",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_DEADLINE_MS},
}


def _id(name: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    }


def _paths() -> Json:
    batch = {
        "application/json": {"schema": {"type": "array", "items": _ref("Transaction")}},
        "application/x-ndjson": {"schema": _ref("Transaction")},
    }
    lines = {"schema": {"anyOf": [_ref("Answer"), _ref("Problem")]}}
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    free: Json = {"security": []}
    return {
        SCORE_ONE.path: {
            "post": {
                "summary": "Score one transaction",
                "parameters": [_TIMEOUT],
                "requestBody": {"required": True, **_body("Transaction")},
                "responses": _answers(
                    {"description": "The decision, or the fallback", **_body("Answer")}, *_SCORING
                ),
            }
        },
        SCORE_MANY.path: {
            "post": {
                "summary": "Score a batch",
                "description": "Returns one line per transaction, in the order of the input. A "
                "transaction that cannot be scored gets a problem that names its line.",
                "parameters": [_TIMEOUT],
                "requestBody": {"required": True, "content": batch},
                "responses": _answers(
                    {"description": "Answers, streamed as they become available",
                     "content": {"application/x-ndjson": lines}},
                    "bad-request", "too-slow", "too-large", "unsupported-encoding", "rate-limit",
                    "unavailable",
                ),
            }
        },
        DECISION.path: {
            "get": {
                "summary": "Look up a decision on a transaction of the key's tenant",
                "parameters": [
                    _id("transaction_id"),
                    {**_id("card_id"), "in": "query", "required": False,
                     "description": "the card, if several have this transaction_id"},
                ],
                "responses": _answers(
                    {"description": "The decision", **_body("Answer")},
                    "not-found", "invalid-transaction", "rate-limit", "unavailable",
                ),
            }
        },
        CARD.path: {
            "get": {
                "summary": "Look up the online store's state of a card",
                "parameters": [_id("card_id")],
                "responses": _answers(
                    {"description": "Times are in ms, amounts in minor units of the base currency",
                     "content": {"application/json": {"schema": {"type": "object"}}}},
                    "bad-request", "not-found", "invalid-transaction", "rate-limit", "unavailable",
                ),
            }
        },
        HEALTHY.path: {
            "get": free | {"summary": "Check whether the gateway is alive", "responses": {
                "200": {"description": "Alive", **text},
                "503": {"description": "Not alive", **text}}}
        },
        READY.path: {
            "get": free | {"summary": "Check whether the gateway accepts requests", "responses": {
                "200": {"description": "Ready", **text},
                "503": {"description": "Not ready", **text}}}
        },
        METRICS.path: {
            "get": {"summary": "Prometheus metrics",
                    "responses": _answers({"description": "Prometheus text format", **text})}
        },
        OPENAPI.path: {
            "get": {"summary": "This document", "responses": _answers({"description": "OpenAPI"})}
        },
    }  # fmt: skip


@cache
def document(root_path: str = "") -> Json:
    """Return the OpenAPI 3.1 document of a gateway under a sub-path, "" for none."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fraud scoring",
            "version": "1",
            "description": "Each transaction is scored exactly once, by the pipeline behind Kafka.",
        },
        "servers": [{"url": root_path or "/"}],
        "security": [{"key": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Transaction": _transaction(),
                "Answer": _answer(),
                "Problem": _problem(),
            },
        },
    }
