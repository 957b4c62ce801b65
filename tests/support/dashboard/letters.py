"""Dead letters as the services write them, on a broker in memory."""

from __future__ import annotations

import json
from typing import Any

from runtime.kafka.memory import MemoryBroker
from runtime.kafka.protocols import TopicPartition
from schemas.codec import avro
from schemas.dead_letters import dead_letter
from schemas.errors import InvalidField

CARD_NUMBER = "4111111111111111"


def transaction(number: int, **fields: Any) -> dict[str, Any]:
    """Return a transaction of card-(number % 3) in a currency that nobody has a rate for."""
    return {
        "transaction_id": f"t{number}", "card_id": f"card-{number % 3}", "merchant_id": "shop",
        "event_time": 1_700_000_000_000 + number, "amount": 1000, "currency": "CHF",
        "attributes": {}, **fields,
    }  # fmt: skip


def encoded(number: int, **fields: Any) -> bytes:
    """Return that transaction in Avro."""
    return avro.encode("Transaction", transaction(number, **fields))


def as_json(number: int, **fields: Any) -> bytes:
    """Return that transaction in JSON."""
    return json.dumps(transaction(number, **fields)).encode()


def refuse(
    broker: MemoryBroker,
    key: bytes | None,
    value: bytes | None,
    *,
    topic: str = "transactions",
    field: str = "currency",
    service: str = "stream_features",
    kept: bool = True,
) -> int:
    """Put a message on its topic, if that is to be kept, and its dead letter; return its number."""
    letters = broker.log(TopicPartition("dead-letter", 0))
    log = broker.log(TopicPartition(topic, 1))
    offset = len(log)
    if kept:
        broker.append(topic, (1, key, value))
    error = InvalidField("no rate for the currency", field=field, value="CHF")
    masked, letter = dead_letter(topic, 1, offset, key, value, error, 1_700_000_000_000, service)
    broker.append("dead-letter", (0, masked, letter))
    return len(letters) - 1
