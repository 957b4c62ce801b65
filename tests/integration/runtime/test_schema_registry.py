"""Confluent's wire format against a server that speaks the registry's REST contract."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import fastavro
import pytest

from runtime.kafka.wire_format import ConfluentRegistry
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.codec.transactions import decode_transactions
from schemas.currency import CurrencyTable
from schemas.errors import RegistryUnavailable, UndecodableMessage, UnknownSchema
from tests.support.http_server import Answer, Asked, serving

NOW = 1_750_000_000_000
RECORD = {
    "transaction_id": "t1",
    "event_time": NOW,
    "card_id": "c1",
    "merchant_id": "m1",
    "amount": 1234,
    "currency": "EUR",
}
NARROW = {
    "type": "record",
    "name": "Transaction",
    "namespace": "fraud",
    "fields": [
        {"name": "amount", "type": "int"},
        {"name": "transaction_id", "type": "string"},
        {"name": "event_time", "type": "long"},
        {"name": "card_id", "type": "string"},
        {"name": "merchant_id", "type": "string"},
        {"name": "currency", "type": "string"},
        {"name": "till", "type": "string"},
    ],
}
OTHER = {"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}
SCHEMAS = {1: avro.raw_schema("Transaction"), 2: NARROW, 3: OTHER}


class Registry:
    """GET /schemas/ids/{id}: the schema as a JSON text in "schema", else 404 with error 40403."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.url = ""

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked.path)
        number = int(asked.path.rpartition("/")[2])
        status = self.status if number in SCHEMAS else 404
        document: dict[str, Any] = {"error_code": 40403, "message": "Schema not found"}
        if status == 200:
            document = {"schema": json.dumps(SCHEMAS[number])}
        return Answer(status, json.dumps(document).encode())


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    with serving(made.answer) as address:
        made.url = f"{address}/"
        yield made


def framed(number: int, schema: Any, record: dict[str, Any]) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return b"\x00" + number.to_bytes(4, "big") + out.getvalue()


def test_our_own_schema_and_a_narrower_one_are_read(registry: Registry) -> None:
    client = ConfluentRegistry(registry.url)
    messages = [framed(1, SCHEMAS[1], RECORD), framed(2, NARROW, RECORD | {"till": "7"})] * 3
    decoded = decode_transactions(messages, now_ms=NOW, currencies=CurrencyTable(), registry=client)
    assert decoded.rejected == []
    assert decoded.ids == [b"t1"] * 6
    assert decoded.columns.amount.tolist() == [1234] * 6
    assert len(set(decoded.bodies)) == 1
    assert registry.asked == ["/schemas/ids/1", "/schemas/ids/2"]


def test_what_cannot_be_read_is_refused_by_name(registry: Registry) -> None:
    client = ConfluentRegistry(registry.url)
    messages = [
        framed(9, SCHEMAS[1], RECORD),
        framed(3, OTHER, {"id": 1}),
        framed(1, SCHEMAS[1], RECORD)[:-4],
        b"\x00\x00",
    ]
    decoded = decode_transactions(
        [*messages, messages[0]], now_ms=NOW, currencies=CurrencyTable(), registry=client
    )
    kinds = [type(error) for _, error in decoded.rejected]
    assert kinds == [
        UnknownSchema,
        UnknownSchema,
        UndecodableMessage,
        UndecodableMessage,
        UnknownSchema,
    ]
    assert "9" in str(decoded.rejected[0][1])
    assert registry.asked.count("/schemas/ids/9") == 1


def test_a_registry_that_is_away_is_a_passing_trouble(registry: Registry) -> None:
    client = ConfluentRegistry(registry.url)
    registry.status = 503
    message = framed(1, SCHEMAS[1], RECORD)
    with pytest.raises(RegistryUnavailable, match="503"):
        client.translate(message, "Transaction")
    registry.status = 200
    assert client.translate(message, "Transaction") == avro.encode("Transaction", RECORD)
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        ConfluentRegistry("http://127.0.0.1:9").translate(message, "Transaction")


def test_it_is_used_only_when_it_is_set() -> None:
    assert ConfluentRegistry.from_settings(load_settings()) is None
    settings = load_settings(schema_registry_url="http://registry.example:8081")
    assert ConfluentRegistry.from_settings(settings) is not None


def test_an_unknown_schema_is_asked_for_again_after_half_a_minute(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be registered a moment after the first message that was written under it."""
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    client = ConfluentRegistry(registry.url)
    message = framed(9, SCHEMAS[1], RECORD)
    for _ in range(3):
        with pytest.raises(UnknownSchema):
            client.translate(message, "Transaction")
        now += 10.0
    assert registry.asked == ["/schemas/ids/9"]
    now += 0.1
    monkeypatch.setitem(SCHEMAS, 9, SCHEMAS[1])
    assert client.translate(message, "Transaction") == avro.encode("Transaction", RECORD)


def test_user_and_password_of_the_settings_are_sent_and_the_wait_is_bounded(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str | None, float]] = []
    urlopen = urllib.request.urlopen

    def noted(request: Any, *, timeout: float) -> Any:
        sent.append((request.get_header("Authorization"), timeout))
        return urlopen(request, timeout=timeout)

    monkeypatch.setattr(urllib.request, "urlopen", noted)
    message = framed(1, SCHEMAS[1], RECORD)
    named = {"schema_registry_user": "jane", "schema_registry_password": "open sesame"}
    for more in (named, {}):
        settings = load_settings(schema_registry_url=registry.url, **more)
        client = ConfluentRegistry.from_settings(settings)
        assert client is not None
        client.translate(message, "Transaction")
    assert sent == [("Basic amFuZTpvcGVuIHNlc2FtZQ==", 5.0), (None, 5.0)]
