"""Fetches Avro schemas from a Confluent schema registry, and classes every answer it may give.

| answer | at fault | raised |
|---|---|---|
| an Avro schema, also one with references | nobody | nothing |
| Protobuf, JSON Schema, a schema that cannot be read or bounded | the message | UnknownSchema |
| 404, 422 and any other 4xx that is not named below | the message | UnknownSchema |
| 401, 403 | the settings, which may be put right meanwhile | RegistryUnavailable |
| 304, 408, 425, 429, 5xx, none, one that no registry gives | it passes | RegistryUnavailable |

Source: Confluent Schema Registry, API reference (`GET /schemas/ids/{id}`,
`GET /subjects/{subject}/versions/{version}`).
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import quote

import fastavro
import fastavro.schema

from schemas.codec import avro
from schemas.errors import RegistryUnavailable, UnknownSchema

TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 1_000_000
"""The longest answer that is read."""
MAX_REFERENCES: Final = 100
_SETTINGS: Final = frozenset({401, 403})
_PASSING: Final = frozenset({408, 425, 429})
_UNREADABLE: Final = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
    fastavro.schema.SchemaParseException,
)
"""What fastavro raises for a document that is not an Avro schema."""


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as fastavro reads with it.

    `header` is the single-object header of the same schema, or None for one with references.
    """

    parsed: Any
    header: bytes | None


class RegisteredSchemas:
    """The schemas of one registry. Blocks; nothing is remembered."""

    def __init__(self, url: str, user: str | None = None, password: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json"}
        self._authorization: str | None = None
        if user is not None:
            token = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
            self._authorization = f"Basic {token}"

    def fetch(self, number: int) -> RegisteredSchema:
        """Return the schema of an id.

        Raises:
            UnknownSchema: the message that names it can never be read.
            RegistryUnavailable: the registry does not answer, or not as a registry does.
        """
        named: dict[str, Any] = {}
        what = f"schema {number}"
        document = self._get(f"/schemas/ids/{number}", what)
        try:
            raw = _avro(document, what)
            self._refer(document, what, named, set())
            header = None
            if not named:
                canonical = fastavro.schema.to_parsing_canonical_form(raw)
                fingerprint = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
                header = avro.MARKER + bytes.fromhex(fingerprint)
            parsed = fastavro.parse_schema(raw, named)
            _least_bytes(parsed, named, (), what)
        except _UNREADABLE as error:
            raise UnknownSchema(f"{what} is not an Avro schema: {error}") from error
        return RegisteredSchema(parsed, header)

    def _refer(
        self,
        document: Mapping[str, Any],
        what: str,
        named: dict[str, Any],
        seen: set[tuple[str, int]],
    ) -> None:
        """Add the types that a schema refers to, and those that they refer to, to `named`."""
        for reference in document.get("references") or ():
            place = str(reference["subject"]), int(reference["version"])
            if place in seen:
                continue
            seen.add(place)
            if len(seen) > MAX_REFERENCES:
                raise UnknownSchema(f"{what} refers to more than {MAX_REFERENCES} other schemas")
            subject, version = place
            of = f"version {version} of {subject}, to which {what} refers"
            found = self._get(f"/subjects/{quote(subject, safe='')}/versions/{version}", of)
            raw = _avro(found, of)
            self._refer(found, what, named, seen)
            fastavro.parse_schema(raw, named)

    def _get(self, path: str, what: str) -> Mapping[str, Any]:
        request = urllib.request.Request(self._url + path, headers=self._headers)
        if self._authorization is not None:  # a registry may send us on, but not our password
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                body = answer.read(MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            error.close()
            raise self._refused(error.code, what) from error
        except (OSError, HTTPException) as error:
            raise RegistryUnavailable(
                f"the schema registry {self._url} does not answer ({error}): check that it runs, "
                "or correct FRAUD_SCHEMA_REGISTRY_URL"
            ) from error
        if len(body) > MAX_BYTES:
            raise UnknownSchema(f"{what} is longer than {MAX_BYTES} bytes")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or not isinstance(document.get("schema"), str):
            raise RegistryUnavailable(
                f"{self._url} does not answer as a schema registry does: "
                "correct FRAUD_SCHEMA_REGISTRY_URL"
            )
        return document

    def _refused(self, code: int, what: str) -> UnknownSchema | RegistryUnavailable:
        if code == 404:
            return UnknownSchema(f"the schema registry has no {what}")
        if code in _SETTINGS:
            return RegistryUnavailable(
                f"the schema registry {self._url} answers {code}: correct "
                "FRAUD_SCHEMA_REGISTRY_USER and FRAUD_SCHEMA_REGISTRY_PASSWORD, or let this user "
                "read schemas"
            )
        if 400 <= code < 500 and code not in _PASSING:
            return UnknownSchema(f"the schema registry answers {code} to {what}")
        return RegistryUnavailable(f"the schema registry {self._url} answers {code}")


def _avro(document: Mapping[str, Any], what: str) -> Any:
    kind = document.get("schemaType") or "AVRO"
    if kind != "AVRO":
        raise UnknownSchema(
            f"{what} is of the type {kind}: only Avro is read, so send Avro or JSON"
        )
    return json.loads(document["schema"])


def _least_bytes(schema: Any, named: Mapping[str, Any], within: tuple[str, ...], what: str) -> int:
    """Return the fewest bytes that a value takes.

    A few bytes must not become an unbounded value: neither by a type that contains itself, on which
    fastavro's recursion has no limit, nor by an array whose items take no bytes.

    Raises:
        UnknownSchema: they could.
    """
    if isinstance(schema, list):
        return 1 + min(_least_bytes(each, named, within, what) for each in schema)
    kind = schema if isinstance(schema, str) else schema["type"]
    if isinstance(kind, list | dict):
        return _least_bytes(kind, named, within, what)
    if kind in within:
        raise UnknownSchema(f"{what} has a type that contains itself: {kind}")
    if kind in named and isinstance(schema, str):
        return _least_bytes(named[kind], named, within, what)
    if kind in ("record", "error"):
        inner = (*within, schema["name"])
        return sum(_least_bytes(each["type"], named, inner, what) for each in schema["fields"])
    if kind == "array":
        if _least_bytes(schema["items"], named, within, what) == 0:
            raise UnknownSchema(f"{what} has an array whose items take no bytes")
        return 1
    if kind == "map":
        _least_bytes(schema["values"], named, within, what)
        return 1
    if kind == "fixed":
        return int(schema["size"])
    return {"null": 0, "float": 4, "double": 8}.get(kind, 1)
