"""The source of a run's transactions, in event order: the world's live stream, or a file.

A feed hands out pieces of any size, together with the labels that become known among them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.traffic.encode import Encoded, encode_transactions
from loadtest.world.world import World
from runtime.files.intake import read_for_command
from runtime.files.options import RejectOptions
from schemas.codec import avro
from schemas.errors import ConfigurationError
from schemas.mapping.event_order import event_order

LabelOrder = Literal["due", "ahead", "none"]
LABEL_COLUMNS: Final = ("transaction_id", "card_id", "event_time", "label_time")


class LabelMessage(NamedTuple):
    """A label to be sent before row `before` of its piece."""

    before: int
    key: bytes
    value: bytes


class FeedPiece(NamedTuple):
    """Some transactions, and the labels to send among them."""

    transactions: Encoded
    labels: list[LabelMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """A world of `customers` from day `first_day` on, or the file `input` if it is given.

    `labels` are sent when they become known in event time ("due"), all before the start ("ahead"),
    or not at all ("none").
    """

    customers: int = 20_000
    seed: int = 7
    first_day: int = 20_148
    new_pattern_day: int | None = None
    fraud_factor: float = 1.0
    wave_every: int | None = None
    input: Path | None = None
    mapping: Path | None = None
    rows: int | None = None
    labels: LabelOrder = "due"


@dataclass(slots=True)
class TransactionFeed:
    """Cuts a sequence of tables, which must be in event order, into pieces.

    Event times later than `clock` (ms) are moved back to it, because the services reject events
    from the future.
    """

    tables: Iterator[pa.Table]
    clock: Callable[[], int]
    labels: LabelOrder = "due"
    remaining: int | None = None
    """Rows not yet taken; None if the feed has no end."""
    _table: pa.Table | None = None
    _at: int = 0
    _pending: list[tuple[int, int, bytes, bytes]] = field(default_factory=list)
    _count: int = 0

    def take(self, count: int) -> FeedPiece:
        """Return the next rows, at most `count`; an empty piece at the end of the feed."""
        while self._table is None or self._at >= self._table.num_rows:
            self._table = next(self.tables, None)
            self._at = 0
            if self._table is None:
                return FeedPiece(encode_transactions(pa.table({})), self._rest())
        table = self._table.slice(self._at, count)
        self._at += table.num_rows
        if self.remaining is not None:
            self.remaining -= table.num_rows
        now = self.clock()
        if table.column("event_time")[-1].as_py() > now:
            place = table.column_names.index("event_time")
            times = pc.min_element_wise(table.column("event_time"), pa.scalar(now, pa.int64()))
            table = table.set_column(place, "event_time", times)
        labels: list[LabelMessage] = []
        if "label" in table.column_names and self.labels != "none":
            labels = self._labels(table)
        return FeedPiece(encode_transactions(table), labels)

    def _labels(self, table: pa.Table) -> list[LabelMessage]:
        time = np.asarray(table.column("event_time").to_numpy(), np.int64)
        for row in fraud_rows(table):
            self._count += 1
            key, value = label_message(row)
            heapq.heappush(self._pending, (row["label_time"], self._count, key, value))
        found: list[LabelMessage] = []
        while self._pending and self._pending[0][0] <= time[-1]:
            known, _, key, value = heapq.heappop(self._pending)
            found.append(LabelMessage(int(np.searchsorted(time, known)), key, value))
        return found

    def _rest(self) -> list[LabelMessage]:
        """Return the labels that become known only after the last transaction of a file."""
        rest = [LabelMessage(0, key, value) for _, _, key, value in sorted(self._pending)]
        self._pending.clear()
        return rest


def fraud_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return LABEL_COLUMNS of each transaction of a mapped table that is labelled as fraud."""
    bad = table.filter(pc.fill_null(table.column("label"), pa.scalar(False)))
    rows: list[dict[str, Any]] = bad.select(list(LABEL_COLUMNS)).to_pylist()
    return rows


def label_message(row: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return key and value of the message that labels a transaction as fraud."""
    label = {
        "transaction_id": row["transaction_id"],
        "card_id": row["card_id"],
        "label": "FRAUD",
        "source": "SIMULATION",
        "transaction_time": row["event_time"],
        "label_time": row["label_time"],
    }
    return row["card_id"].encode(), avro.encode("Label", label)


def read_mapped(path: Path, mapping_path: Path, rows: int | None = None) -> pa.Table:
    """Read the first `rows` rows of a file as a mapped table in event order.

    Rows that the services would refuse are left out.

    Raises:
        ConfigurationError: the file cannot be read, or the mapping does not fit it.
    """
    mapped = read_for_command(path, mapping_path, RejectOptions(max_share=1.0), rows=rows).table
    return mapped.take(pa.array(event_order(mapped)))


def open_feed(
    settings: FeedSettings, clock: Callable[[], int]
) -> tuple[TransactionFeed, list[LabelMessage]]:
    """Return the feed, and the labels to send before its first transaction.

    Raises:
        ConfigurationError: the file cannot be read or mapped.
    """
    if settings.input is None:
        world = World(
            settings.customers,
            settings.seed,
            new_pattern_day=settings.new_pattern_day,
            fraud_factor=settings.fraud_factor,
            wave_every=settings.wave_every,
        )
        if settings.labels == "ahead":
            raise ConfigurationError("--labels ahead needs --input: the world's stream has no end")
        return TransactionFeed(world.days(settings.first_day), clock, settings.labels), []
    if settings.mapping is None:
        raise ConfigurationError(f"--input {settings.input} needs a --mapping")
    table = read_mapped(settings.input, settings.mapping, settings.rows)
    ahead: list[LabelMessage] = []
    if settings.labels == "ahead" and "label" in table.column_names:
        ahead = [LabelMessage(0, *label_message(row)) for row in fraud_rows(table)]
    order: LabelOrder = "due" if settings.labels == "due" else "none"
    return TransactionFeed(iter([table]), clock, order, table.num_rows), ahead
