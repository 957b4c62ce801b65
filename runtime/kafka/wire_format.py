"""Confluent's wire format: a zero byte, a 4-byte big-endian schema id, the Avro body.

Accepted when FRAUD_SCHEMA_REGISTRY_URL is set. A schema never changes under its id, so each is
fetched once. Source: Confluent Schema Registry, API reference
(`GET /schemas/ids/{id}`) and "Wire format".
"""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import urllib.error
import urllib.request
from typing import Any, Final, NoReturn, Self

import fastavro
import fastavro.schema

from runtime.settings import Settings
from schemas.codec import avro
from schemas.errors import RegistryUnavailable, UndecodableMessage, UnknownSchema

PREFIX_SIZE: Final = 5
TIMEOUT_S: Final = 5.0
UNKNOWN_S: Final = 30.0
"""How long an unknown id is remembered, so that a flood of bad messages causes one request."""
MAX_UNKNOWN: Final = 10_000


class ConfluentRegistry:
    """See `schemas.validation.SchemaRegistry`. Thread-safe; blocks to fetch a new schema."""

    def __init__(self, url: str, user: str | None = None, password: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json"}
        if user is not None:
            token = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._schemas: dict[int, Any] = {}
        self._headers_by_id: dict[int, bytes] = {}
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
            UnknownSchema: the registry does not know the id, or the schema does not fit `name`.
            RegistryUnavailable: the registry does not answer.
        """
        if len(message) < PREFIX_SIZE:
            raise UndecodableMessage(f"{len(message)} bytes: too short for Confluent's wire format")
        number = int.from_bytes(message[1:PREFIX_SIZE], "big")
        schema = self._schema(number)
        body = message[PREFIX_SIZE:]
        if self._headers_by_id[number] == avro.header(name):
            return avro.header(name) + body
        stream = io.BytesIO(body)
        try:
            record = fastavro.schemaless_reader(stream, schema, avro.parsed_schema(name))
        except fastavro.schema.SchemaParseException as error:
            raise UnknownSchema(f"schema {number} does not resolve to a {name}: {error}") from error
        except fastavro.read.SchemaResolutionError as error:
            raise UnknownSchema(
                f"schema {number} does not resolve to a {name}: {error or 'fields or types differ'}"
            ) from error
        except (EOFError, IndexError, ValueError, KeyError, OverflowError, TypeError) as error:
            raise UndecodableMessage(f"damaged {name} of schema {number}: {error}") from error
        if stream.tell() != len(body) or not isinstance(record, dict):
            raise UndecodableMessage(f"bytes left over after a {name} of schema {number}")
        return record

    def _schema(self, number: int) -> Any:
        with self._lock:
            since, reason = self._unknown.get(number, (0.0, ""))
            if reason and time.monotonic() - since < UNKNOWN_S:
                raise UnknownSchema(reason)
            if number not in self._schemas:
                self._fetch(number)
            return self._schemas[number]

    def _fetch(self, number: int) -> None:
        request = urllib.request.Request(f"{self._url}/schemas/ids/{number}", headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                document: dict[str, Any] = json.load(answer)
            raw = json.loads(document["schema"])
            canonical = fastavro.schema.to_parsing_canonical_form(raw)
            fingerprint = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
            self._schemas[number] = fastavro.parse_schema(raw)
            self._headers_by_id[number] = avro.MARKER + bytes.fromhex(fingerprint)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise RegistryUnavailable(f"{self._url} answers {error.code}") from error
            self._refuse(number, f"schema registry has no schema {number}")
        except (OSError, ValueError) as error:
            raise RegistryUnavailable(f"{self._url} does not answer: {error}") from error
        except (KeyError, TypeError, fastavro.schema.SchemaParseException) as error:
            self._refuse(number, f"schema {number} is not Avro: {error}")

    def _refuse(self, number: int, reason: str) -> NoReturn:
        if len(self._unknown) >= MAX_UNKNOWN:
            self._unknown.clear()
        self._unknown[number] = (time.monotonic(), reason)
        raise UnknownSchema(reason)
