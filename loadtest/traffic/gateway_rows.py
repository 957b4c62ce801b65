"""The world's transactions as JSON, the way the gateway's clients send them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from loadtest.world.world import World

FIELDS: Final = (
    "transaction_id", "event_time", "card_id", "customer_id", "merchant_id", "amount", "currency",
    "mcc", "channel", "device_id", "ip", "ip_country", "card_country", "merchant_country",
    "latitude", "longitude", "kind",
)  # fmt: skip
CHUNK: Final = 5_000


class GatewayRow(NamedTuple):
    """A transaction's id and its JSON document."""

    transaction_id: str
    body: bytes


def rows(customers: int, seed: int, first_day: int) -> Iterator[GatewayRow]:
    """Yield the world's endless stream; no event time lies in the future."""
    for day in World(customers, seed).days(first_day):
        held = day.select([name for name in FIELDS if name in day.column_names])
        for start in range(0, held.num_rows, CHUNK):
            now_ms = time.time_ns() // 1_000_000
            for record in held.slice(start, CHUNK).to_pylist():
                record["event_time"] = min(record["event_time"], now_ms)
                known = {name: value for name, value in record.items() if value is not None}
                yield GatewayRow(record["transaction_id"], json.dumps(known).encode())


def take_rows(stream: Iterator[GatewayRow], count: int) -> list[GatewayRow]:
    """Return the next `count` rows; encode them before measuring starts."""
    return [next(stream) for _ in range(count)]
