"""Every answer that a schema registry may give is the message's fault, passes, or is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import fastavro
import pytest

from runtime.kafka.registered_schemas import MAX_BYTES, MAX_REFERENCES
from runtime.kafka.wire_format import ConfluentRegistry, PatientRegistry
from runtime.retries import Retry
from schemas.codec import avro
from schemas.codec.transactions import decode_transactions
from schemas.currency import CurrencyTable
from schemas.errors import RegistryUnavailable, UndecodableMessage, UnknownSchema
from schemas.validation import read_label
from tests.support.http_server import Answer, Asked, serving

NOW = 1_750_000_000_000
RECORD: dict[str, Any] = {
    "transaction_id": "t1",
    "event_time": NOW,
    "card_id": "c1",
    "merchant_id": "m1",
    "amount": 1234,
    "currency": "EUR",
}
LABEL: dict[str, Any] = {
    "transaction_id": "t1",
    "card_id": "c1",
    "label": "FRAUD",
    "source": "CHARGEBACK",
    "transaction_time": NOW,
    "label_time": NOW,
}
OURS = avro.raw_schema("Transaction")
DROP = "the connection ends in the middle of the answer"


def record_of(*more: Any, **types: Any) -> dict[str, Any]:
    """Return a Transaction's schema with other types of some fields, and with more fields."""
    usual = dict.fromkeys(RECORD, "string") | {"event_time": "long", "amount": "long"} | types
    fields = [{"name": name, "type": kind} for name, kind in usual.items()]
    return {
        "type": "record", "name": "Transaction", "namespace": "fraud", "fields": [*fields, *more],
    }  # fmt: skip


def answer(schema: Any, **more: Any) -> bytes:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    return json.dumps({"schema": text, **more}).encode()


class Registry:
    """Answers by path with a status and a body; any other path with Confluent's 404."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes | str]] = {}
        self.asked: list[str] = []
        self.credentials: list[str | None] = []
        self.moved_to = ""
        self.url = ""

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked.path)
        self.credentials.append(asked.headers["Authorization"])
        if self.moved_to:
            return Answer(307, headers={"Location": self.moved_to + asked.path})
        missing = (404, b'{"error_code": 40403, "message": "Schema not found"}')
        return Answer(*self.answers.get(asked.path, missing))

    def has(self, number: int, body: bytes | str, status: int = 200) -> None:
        self.answers[f"/schemas/ids/{number}"] = status, body


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    made.has(1, answer(OURS))
    with serving(made.answer) as made.url:
        yield made


def framed(number: int, body: bytes) -> bytes:
    return b"\x00" + number.to_bytes(4, "big") + body


def written(number: int, schema: Any, record: Any, named: dict[str, Any] | None = None) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema, named or {}), record)
    return framed(number, out.getvalue())


GOOD = written(1, OURS, RECORD)
MONEY = {
    "type": "record", "name": "Money", "namespace": "pay",
    "fields": [{"name": "minor", "type": "long"}],
}  # fmt: skip
NODE = {
    "type": "record", "name": "Node",
    "fields": [{"name": "next", "type": ["null", "Node"]}],
}  # fmt: skip
REFERENCE = [{"name": "pay.Money", "subject": "pay money", "version": 3}]

FAULTS_OF_THE_MESSAGE: dict[str, tuple[int, bytes]] = {
    "no such schema": (404, b'{"error_code": 40403}'),
    "an id beyond 2^31": (422, b'{"error_code": 42201}'),
    "a bad request": (400, b""),
    "gone": (410, b""),
    "any other 4xx": (418, b""),
    "Protobuf": (200, answer('syntax = "proto3"; message T {}', schemaType="PROTOBUF")),
    "JSON Schema": (200, answer({"type": "object"}, schemaType="JSON")),
    "a type of tomorrow": (200, answer("x", schemaType="THRIFT")),
    "a schema that is not JSON": (200, answer("record T {}")),
    "a schema that is not Avro": (200, answer({"type": "object"})),
    "a schema that is a number": (200, answer("7")),
    "an unknown named type": (200, answer(record_of(amount="pay.Money"))),
    "a reference that is gone": (200, answer(record_of(amount="pay.Money"), references=REFERENCE)),
    "a reference without a subject": (200, answer(OURS, references=[{"name": "x"}])),
    "a schema that is too long": (200, answer(" " * MAX_BYTES + '"string"')),
    "a schema that is nested deeply": (200, answer("[" * 50_000)),
    "a type that contains itself": (200, answer(record_of({"name": "more", "type": NODE}))),
    "items of no bytes": (
        200, answer(record_of({"name": "more", "type": {"type": "array", "items": "null"}})),
    ),
    "a record of another kind": (
        200, answer({"type": "record", "name": "O", "fields": [{"name": "id", "type": "long"}]}),
    ),
}  # fmt: skip
PASSING: dict[str, tuple[int, bytes | str]] = {
    "credentials": (401, b""),
    "rights": (403, b""),
    "too slow": (408, b""),
    "too early": (425, b""),
    "too many requests": (429, b""),
    "an error of the server": (500, b""),
    "a proxy without its server": (502, b""),
    "maintenance": (503, b""),
    "a time-out of a proxy": (504, b""),
    "nothing new": (304, b""),
    "a page of a proxy": (200, b"<html>log in first</html>"),
    "JSON of somebody else": (200, b'{"status": "UP"}'),
    "a list": (200, b"[]"),
    "half an answer": (200, DROP),
}


@pytest.mark.parametrize("case", FAULTS_OF_THE_MESSAGE)
def test_a_message_at_fault_becomes_a_dead_letter_and_the_next_is_served(
    registry: Registry, case: str
) -> None:
    status, body = FAULTS_OF_THE_MESSAGE[case]
    registry.has(7, body, status)
    client = ConfluentRegistry(registry.url)
    found = decode_transactions(
        [GOOD, framed(7, b"\x02\x04ab"), GOOD],
        now_ms=NOW, currencies=CurrencyTable(), registry=client,
    )  # fmt: skip
    assert found.rows.tolist() == [0, 2]
    [(row, error)] = found.rejected
    assert (row, type(error)) == (1, UnknownSchema)
    assert "schema 7" in str(error)
    with pytest.raises(UnknownSchema):
        read_label(framed(7, b"\x02\x04ab"), now_ms=NOW, registry=client)
    assert registry.asked.count("/schemas/ids/7") == 1


@pytest.mark.parametrize("case", PASSING)
def test_what_passes_is_waited_for(registry: Registry, case: str) -> None:
    status, body = PASSING[case]
    registry.has(7, body, status)
    client = ConfluentRegistry(registry.url)
    message = written(7, OURS, RECORD)
    with pytest.raises(RegistryUnavailable) as found:
        client.translate(message, "Transaction")
    assert registry.url in str(found.value)
    registry.has(7, answer(OURS))
    assert client.translate(message, "Transaction") == avro.encode("Transaction", RECORD)


def test_a_refused_log_in_names_the_settings(registry: Registry) -> None:
    registry.has(7, b"", 401)
    with pytest.raises(RegistryUnavailable, match="FRAUD_SCHEMA_REGISTRY_USER"):
        ConfluentRegistry(registry.url).translate(framed(7, b""), "Transaction")


def test_no_server_at_all_passes() -> None:
    for url in ("http://127.0.0.1:9", "http://no.such.host.invalid:8081", "https://127.0.0.1:9"):
        with pytest.raises(RegistryUnavailable, match="FRAUD_SCHEMA_REGISTRY_URL"):
            ConfluentRegistry(url).translate(framed(7, b""), "Transaction")


def test_who_is_sent_on_takes_no_password_along(registry: Registry) -> None:
    moved = Registry()
    moved.moved_to = registry.url
    registry.has(7, answer(OURS))
    message = written(7, OURS, RECORD)
    with serving(moved.answer) as moved.url:
        client = ConfluentRegistry(moved.url, "jane", "open sesame")
        assert client.translate(message, "Transaction") == avro.encode("Transaction", RECORD)
    assert moved.credentials == ["Basic amFuZTpvcGVuIHNlc2FtZQ=="]
    assert registry.credentials == [None]


def test_a_schema_with_references_is_read(registry: Registry) -> None:
    schema = record_of({"name": "fee", "type": "pay.Money"}, {"name": "tip", "type": "pay.Money"})
    nested = {
        "type": "record", "name": "Money", "namespace": "pay",
        "fields": [{"name": "minor", "type": "pay.Minor"}],
    }  # fmt: skip
    minor = {"type": "fixed", "name": "Minor", "namespace": "pay", "size": 2}
    registry.has(7, answer(schema, references=REFERENCE))
    below = [{"name": "pay.Minor", "subject": "minor", "version": 1}]
    registry.answers["/subjects/pay%20money/versions/3"] = 200, answer(nested, references=below)
    registry.answers["/subjects/minor/versions/1"] = 200, answer(minor)
    named: dict[str, Any] = {}
    fastavro.parse_schema(minor, named)
    fastavro.parse_schema(nested, named)
    money = {"minor": b"\x00\x01"}
    message = written(7, schema, RECORD | {"fee": money, "tip": money}, named)
    found = decode_transactions(
        [message, message], now_ms=NOW, currencies=CurrencyTable(),
        registry=ConfluentRegistry(registry.url),
    )  # fmt: skip
    assert found.rejected == []
    assert found.ids == [b"t1", b"t1"]
    assert len(registry.asked) == 3


def test_references_without_end_are_refused(registry: Registry) -> None:
    for number in range(MAX_REFERENCES + 1):
        below = [{"name": f"T{number + 1}", "subject": f"s{number + 1}", "version": 1}]
        kind = {"type": "fixed", "name": f"T{number}", "size": 1}
        registry.answers[f"/subjects/s{number}/versions/1"] = 200, answer(kind, references=below)
    registry.has(7, answer(OURS, references=[{"name": "T0", "subject": "s0", "version": 1}]))
    with pytest.raises(UnknownSchema, match="refers to more than"):
        ConfluentRegistry(registry.url).translate(framed(7, b""), "Transaction")


@pytest.mark.parametrize(
    ("kind", "ms"),
    [
        ({"type": "long", "logicalType": "timestamp-millis"}, NOW),
        ({"type": "long", "logicalType": "timestamp-micros"}, NOW * 1000 + 999),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, NOW),
    ],
)
def test_times_with_a_logical_type_are_milliseconds(
    registry: Registry, kind: dict[str, str], ms: int
) -> None:
    plain = record_of()
    registry.has(7, answer(record_of(event_time=kind)))
    message = written(7, plain, RECORD | {"event_time": ms})
    found = decode_transactions(
        [message], now_ms=NOW, currencies=CurrencyTable(), registry=ConfluentRegistry(registry.url)
    )
    assert found.rejected == []
    assert found.columns.time.tolist() == [NOW]


def test_an_id_that_is_a_uuid_is_read_as_its_text(registry: Registry) -> None:
    text = "6f1c1f3a-6c5d-4c53-9b0a-0d9a0a4f3c11"
    schema = record_of(transaction_id={"type": "string", "logicalType": "uuid"})
    registry.has(7, answer(schema))
    message = written(7, record_of(), RECORD | {"transaction_id": text})
    found = decode_transactions(
        [message], now_ms=NOW, currencies=CurrencyTable(), registry=ConfluentRegistry(registry.url)
    )
    assert found.ids == [text.encode()]


@pytest.mark.parametrize("body", [b"", b"\x02", b"\xff" * 40, b"\x7f" * 300, b"\x01" * 30])
def test_bytes_that_the_schema_did_not_write_are_damaged(registry: Registry, body: bytes) -> None:
    more = {"name": "more", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4}}
    registry.has(7, answer(record_of(more, amount="double")))
    with pytest.raises((UndecodableMessage, UnknownSchema)):
        ConfluentRegistry(registry.url).translate(framed(7, body), "Transaction")


def test_a_patient_registry_waits_and_passes_the_message_s_faults_on(registry: Registry) -> None:
    registry.has(7, b"", 503)
    waited: list[str] = []

    def comes_back(error: Exception) -> None:
        waited.append(str(error))
        registry.has(7, answer(OURS))

    retry = Retry(errors=RegistryUnavailable, on_wait=comes_back, first_wait_s=0.001)
    client = PatientRegistry(ConfluentRegistry(registry.url), retry)
    message = written(7, OURS, RECORD)
    assert client.translate(message, "Transaction") == avro.encode("Transaction", RECORD)
    assert len(waited) == 1
    with pytest.raises(UnknownSchema):
        client.translate(framed(8, b""), "Transaction")
