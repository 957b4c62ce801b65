"""Confluent's wire format: a zero byte, a 4-byte big-endian schema id, the Avro body.

Accepted when FRAUD_SCHEMA_REGISTRY_URL is set. A schema never changes under its id, so each is
fetched once; `registered_schemas` says what becomes of every answer of the registry.
Source: Confluent Schema Registry, "Wire format".
"""

from __future__ import annotations

import io
import struct
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID

import fastavro
import fastavro.schema

from runtime.kafka.registered_schemas import RegisteredSchema, RegisteredSchemas
from runtime.retries import Retry
from runtime.settings import Settings
from schemas.codec import avro
from schemas.errors import UndecodableMessage, UnknownSchema
from schemas.validation import SchemaRegistry

PREFIX_SIZE: Final = 5
UNKNOWN_S: Final = 30.0
"""How long an unknown id is remembered, so that a flood of bad messages causes one request."""
MAX_UNKNOWN: Final = 10_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_DAMAGED: Final = (
    EOFError,
    IndexError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    struct.error,
)
"""What fastavro raises for bytes that were not written under the schema."""


class ConfluentRegistry:
    """See `schemas.validation.SchemaRegistry`. Thread-safe; blocks to fetch a new schema."""

    def __init__(self, url: str, user: str | None = None, password: str | None = None) -> None:
        self._source = RegisteredSchemas(url, user, password)
        self._schemas: dict[int, RegisteredSchema] = {}
        self._unknown: dict[int, tuple[float, str]] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Return the registry that the settings name, or None if they name none."""
        if settings.schema_registry_url is None:
            return None
        password = settings.schema_registry_password
        return cls(
            settings.schema_registry_url,
            settings.schema_registry_user,
            password.get_secret_value() if password else None,
        )

    def translate(self, message: bytes, name: str) -> bytes | dict[str, Any]:
        """Return `message` in our own encoding, or decoded if its schema differs from ours.

        Raises:
            UndecodableMessage: the message is damaged.
            UnknownSchema: the schema cannot be had or read, or does not fit `name`.
            RegistryUnavailable: the registry does not answer.
        """
        if len(message) < PREFIX_SIZE:
            raise UndecodableMessage(f"{len(message)} bytes: too short for Confluent's wire format")
        number = int.from_bytes(message[1:PREFIX_SIZE], "big")
        schema = self._schema(number)
        body = message[PREFIX_SIZE:]
        if schema.header == avro.header(name):
            return avro.header(name) + body
        stream = io.BytesIO(body)
        try:
            record = fastavro.schemaless_reader(stream, schema.parsed, avro.parsed_schema(name))
        except fastavro.schema.SchemaParseException as error:
            raise UnknownSchema(f"schema {number} does not resolve to a {name}: {error}") from error
        except fastavro.read.SchemaResolutionError as error:
            raise UnknownSchema(
                f"schema {number} does not resolve to a {name}: {error or 'fields or types differ'}"
            ) from error
        except _DAMAGED as error:
            raise UndecodableMessage(f"damaged {name} of schema {number}: {error}") from error
        if stream.tell() != len(body) or not isinstance(record, dict):
            raise UndecodableMessage(f"bytes left over after a {name} of schema {number}")
        return {field: _plain(value) for field, value in record.items()}

    def _schema(self, number: int) -> RegisteredSchema:
        with self._lock:
            since, reason = self._unknown.get(number, (0.0, ""))
            if reason and time.monotonic() - since < UNKNOWN_S:
                raise UnknownSchema(reason)
            if number not in self._schemas:
                try:
                    self._schemas[number] = self._source.fetch(number)
                except UnknownSchema as error:
                    self._remember(number, str(error))
                    raise
            return self._schemas[number]

    def _remember(self, number: int, reason: str) -> None:
        if len(self._unknown) >= MAX_UNKNOWN:
            self._unknown.clear()
        self._unknown[number] = (time.monotonic(), reason)


class PatientRegistry:
    """A registry whose failures pass: `translate` waits for it and never raises them.

    For processes whose step cannot be repeated once they have polled.
    """

    def __init__(self, registry: SchemaRegistry, retry: Retry) -> None:
        self._registry, self._retry = registry, retry

    @classmethod
    def from_settings(cls, settings: Settings, retry: Retry) -> Self | None:
        """Return the registry that the settings name, or None if they name none."""
        registry = ConfluentRegistry.from_settings(settings)
        return None if registry is None else cls(registry, retry)

    def translate(self, message: bytes, name: str) -> bytes | dict[str, Any]:
        """See `ConfluentRegistry.translate`; `retry` says which errors are waited out."""
        return self._retry(lambda: self._registry.translate(message, name))


def _plain(value: Any) -> Any:
    """Return what a record without Avro's logical types would hold: times in ms, UUIDs as text."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (aware - _EPOCH) // _MS
    return str(value) if isinstance(value, UUID) else value
