"""From messages of the followed topics to rows of the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from database.core.inserts import storable
from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.codec.decisions import ACTIONS, decode_decisions
from schemas.codec.vectors import decode_feature_vectors
from schemas.errors import BadMessage, Rejected
from schemas.records import Label
from schemas.validation import SchemaRegistry, read_label

_TEXTS: Final = ("transaction_id", "card_id", "merchant_id", "currency")
MAX_VERSION_LENGTH: Final = 64
"""In characters, as in a policy document."""
REVIEW: Final = ACTIONS.index("REVIEW")


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of a table, the messages that could not be read, and the Decisions to review."""

    rows: list[dict[str, Any]]
    rejected: list[Rejected]
    reviews: list[dict[str, Any]]


def decision_rows(messages: Sequence[Message]) -> StoredRows:
    """Return rows of `decisions`; duplicates are not reviewed again."""
    values = [message.value or b"" for message in messages]
    found = decode_decisions(values)
    records = [values[row] for row in found.rows.tolist()]
    scores = [None if score != score else score for score in found.score.tolist()]
    columns = (
        _texts(found.raw("transaction_id")),
        _texts(found.raw("card_id")),
        _texts(found.raw("merchant_id")),
        found.number("event_time").tolist(),
        (found.number("decided_at") // 1000).tolist(),
        [ACTIONS[action] for action in found.action.tolist()],
        scores,
        found.number("amount").tolist(),
        _texts(found.raw("currency")),
        records,
    )
    names = (
        "transaction_id", "card_id", "merchant_id", "event_time", "decided_at", "decision",
        "score", "amount", "currency", "record",
    )  # fmt: skip
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    asked = np.flatnonzero((found.action == REVIEW) & ~found.duplicate).tolist()
    return StoredRows(rows, found.rejected, [_review(records[row], rows[row]) for row in asked])


def vector_rows(messages: Sequence[Message]) -> StoredRows:
    """Return rows of `vectors`."""
    values = [message.value or b"" for message in messages]
    found = decode_feature_vectors(values)
    columns = zip(
        _texts(found.raw("transaction_id")),
        _texts(found.raw("card_id")),
        (found.computed_at // 1000).tolist(),
        [values[row] for row in found.rows.tolist()],
        strict=True,
    )
    rows = [
        {"transaction_id": transaction, "card_id": card, "computed_at": at, "record": record}
        for transaction, card, at, record in columns
    ]
    return StoredRows(rows, found.rejected, [])


def policy_rows(messages: Sequence[Message]) -> StoredRows:
    """Return rows of `policies`: documents that scorers refuse, too, but not deletions."""
    rows: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    for place, message in enumerate(messages):
        if message.value is None:
            continue
        try:
            name, event = avro.decode(message.value)
            if name != "PolicyEvent":
                raise BadMessage(f"a {name} on the policy topic")
            if len(event["version"]) > MAX_VERSION_LENGTH:
                raise BadMessage(f"a version of {len(event['version'])} characters")
        except BadMessage as error:
            rejected.append((place, error))
            continue
        texts = {field: storable(event[field]) for field in ("version", "document", "actor")}
        rows.append(texts | {"published_at": event["occurred_at"]})
    return StoredRows(rows, rejected, [])


def label_reader(
    pan_key: bytes | None = None, registry: SchemaRegistry | None = None
) -> Callable[[Message], Label]:
    """Return a function that decodes a message of `labels`.

    Key and registry are those of the stream processor. The function raises BadMessage or
    RegistryUnavailable.
    """
    return lambda message: read_label(
        message.value or b"", now_ms=message.arrived, pan_key=pan_key, registry=registry
    )


def readable_labels(messages: Sequence[Message], read: Callable[[Message], Label]) -> list[Label]:
    """Return the readable labels; the stream processor turns the others into dead letters."""
    found = []
    for message in messages:
        with suppress(BadMessage):
            found.append(read(message))
    return found


def _texts(values: Sequence[bytes]) -> list[str]:
    return [storable(value.decode()) for value in values]


def _review(message: bytes, row: dict[str, Any]) -> dict[str, Any]:
    """Return the decoded Decision, with the storable texts of its row."""
    record: dict[str, Any] = avro.decode(message)[1]
    return record | {name: row[name] for name in _TEXTS}
