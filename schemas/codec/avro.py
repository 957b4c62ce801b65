"""Avro single-object encoding of every record: the reference codec (fastavro).

Layout: 0xC3 0x01, the 8-byte little-endian CRC-64-AVRO fingerprint of the schema's canonical form,
the Avro binary body. Source: Apache Avro specification, "Single-object encoding".
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any, Final

import fastavro
import fastavro.schema

from schemas.errors import UndecodableMessage, UnknownSchema

MARKER: Final = b"\xc3\x01"
HEADER_SIZE: Final = 10
SCHEMA_FILES: Final = {
    "Transaction": "transaction",
    "FeatureVector": "feature_vector",
    "Decision": "decision",
    "Label": "label",
    "ModelEvent": "model_event",
    "PolicyEvent": "policy_event",
    "RetrainRequest": "retrain_request",
    "Alert": "alert",
    "DeadLetter": "dead_letter",
}


@cache
def raw_schema(name: str) -> dict[str, Any]:
    """Return the schema of record `name` from schemas/avro."""
    text = resources.files("schemas").joinpath("avro", SCHEMA_FILES[name] + ".avsc").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@cache
def parsed_schema(name: str) -> Any:
    """Return the schema parsed once by fastavro."""
    return fastavro.parse_schema(raw_schema(name))


def header_of(schema: dict[str, Any]) -> bytes:
    """Return the 10 bytes in front of every message written with `schema`."""
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    return MARKER + bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


@cache
def header(name: str) -> bytes:
    """Return the 10 bytes in front of every message of record `name`."""
    return header_of(raw_schema(name))


def superseded() -> Iterator[dict[str, Any]]:
    """Yield the schemas of older versions, which messages may still be written with."""
    folder = resources.files("schemas").joinpath("avro", "superseded")
    for file in folder.iterdir() if folder.is_dir() else ():
        yield json.loads(file.read_text())


@cache
def _writers() -> dict[bytes, tuple[str, Any]]:
    """Return record name and the writer's schema by header."""
    before = {
        header_of(schema): (schema["name"], fastavro.parse_schema(schema))
        for schema in superseded()
    }
    return before | {header(name): (name, parsed_schema(name)) for name in SCHEMA_FILES}


@cache
def _tails(name: str) -> dict[bytes, bytes]:
    """Return the bytes that messages of older schemas lack, by header."""
    today = raw_schema(name)
    found = {}
    for schema in superseded():
        tail = _tail(schema, today) if schema["name"] == name else None
        if tail is not None:
            found[header_of(schema)] = tail
    return found


def _tail(older: dict[str, Any], today: dict[str, Any]) -> bytes | None:
    """Return the encoded defaults of the fields that `today` has behind those of `older`.

    None if they differ in another way.
    """
    before, after = older["fields"], today["fields"]
    shared = len(before)
    types = [[(field["name"], field["type"]) for field in each] for each in (before, after)]
    if types[0] != types[1][:shared]:
        nested = types[0][:-1] == types[1][:-1] and before[-1]["name"] == after[-1]["name"]
        kinds = before[-1]["type"], after[-1]["type"]
        if nested and all(isinstance(kind, dict) and "fields" in kind for kind in kinds):
            return _tail(*kinds)
        return None
    added = {"type": "record", "name": "Added", "fields": after[shared:]}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(added), {})
    return out.getvalue()


def brought_up_to_date(name: str, message: bytes) -> bytes | None:
    """Return a message of an older schema as today's, if only defaults have to be put behind it.

    Much faster than to decode and encode it; None for every other message. The body is not looked
    at, but for its last byte, which must not go on into the defaults.
    """
    tail = _tails(name).get(message[:HEADER_SIZE])
    if tail is None or message[-1] >= 0x80:
        return None
    return header(name) + message[HEADER_SIZE:] + tail


def encode(name: str, record: Any) -> bytes:
    """Encode `record` (a TypedDict of schemas.records) as a single-object message."""
    out = io.BytesIO()
    out.write(header(name))
    fastavro.schemaless_writer(out, parsed_schema(name), record)
    return out.getvalue()


def decode(data: bytes) -> tuple[str, dict[str, Any]]:
    """Decode a single-object message: (record name, record under today's schema).

    Raises:
        UndecodableMessage: it has no marker, is cut short, or has trailing bytes.
        UnknownSchema: its fingerprint is not one of ours.
    """
    if data[:2] != MARKER or len(data) < HEADER_SIZE:
        raise UndecodableMessage(
            f"not an Avro single-object message: starts with {data[:4].hex() or 'nothing'}, "
            "expected c301"
        )
    found = _writers().get(data[:HEADER_SIZE])
    if found is None:
        raise UnknownSchema(
            f"unknown schema fingerprint {data[2:HEADER_SIZE].hex()}: send one of schemas/avro"
        )
    name, writer = found
    today = parsed_schema(name)
    stream = io.BytesIO(data)
    stream.seek(HEADER_SIZE)
    try:
        record = fastavro.schemaless_reader(stream, writer, None if writer is today else today)
    except (EOFError, IndexError, ValueError, UnicodeDecodeError, KeyError, OverflowError) as error:
        raise UndecodableMessage(f"{name} is cut short or damaged: {error}") from error
    if stream.tell() != len(data):
        raise UndecodableMessage(f"{name} has {len(data) - stream.tell()} bytes too many")
    if not isinstance(record, dict):
        raise UndecodableMessage(f"{name} is not a record")
    return name, record
