"""Decoder, engine and encoder together: from Kafka records to state changes and messages.

State is only read from the store here; `commits` writes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, Protocol

import numpy as np
import structlog

from runtime.clock import Clock
from runtime.feature_store.protocol import FeatureStore, FoldLike
from runtime.metrics import Metrics
from runtime.repeated_lines import RepeatedLines
from schemas.codec import avro
from schemas.codec.transactions import decode_transactions
from schemas.codec.vectors import encode_feature_vectors
from schemas.columns import TransactionColumns, empty_columns
from schemas.currency import CurrencyTable
from schemas.dead_letters import dead_letter
from schemas.errors import BadMessage
from schemas.keys import hash_id
from schemas.records import Label
from schemas.validation import SchemaRegistry, read_label
from stream_features.engine.live import LiveEngine, LiveResult
from stream_features.engine.passes.fraud_labels import ADDED, NOTHING, PENDING, REFUSED, REMOVED
from stream_features.engine.passes.workspace import DUPLICATE, LATE
from stream_features.worker.arrival_times import arrival_times
from stream_features.worker.arrivals import Arrivals, pick
from stream_features.worker.ordering import NO_TIME
from stream_features.worker.outbox import Messages
from stream_features.worker.placement import Placement
from stream_features.worker.stages import StageTimers

log = structlog.get_logger(__name__)
_OFFSET = attrgetter("offset")
KEPT_BYTES: Final = 2**16
"""How much of an unreadable value is kept: more than the largest card."""
OUTCOMES: Final = {
    NOTHING: "nothing",
    PENDING: "pending",
    ADDED: "added",
    REMOVED: "removed",
    REFUSED: "refused",
}


@dataclass(frozen=True, slots=True)
class Computed:
    """The result of one batch: changes for the store, and messages by source partition number."""

    cards: Sequence[tuple[bytes, bytes]] = ()
    appends: Sequence[tuple[bytes, bytes]] = ()
    folds: Sequence[FoldLike] = ()
    messages: Mapping[int, Messages] = field(default_factory=dict)


class Computation(Protocol):
    """The computation that a worker drives. Every method blocks.

    After a TemporaryError the same call may be repeated. Records are aiokafka's ConsumerRecords.
    """

    def decode(self, records: Mapping[int, Sequence[Any]]) -> Arrivals:
        """Decode transaction records by partition number; bad ones become dead letters."""

    def transactions(self, batch: Arrivals) -> Computed:
        """Process decoded transactions in their order."""

    def labels(self, records: Sequence[Any]) -> Computed:
        """Apply label records in their order."""

    def refuse_transaction(self, row: Arrivals, error: Exception) -> Computed:
        """Return the dead letter of a single row for which `transactions` raised `error`."""

    def refuse_label(self, record: Any, error: Exception) -> Computed:
        """Return the dead letter of a single record for which `labels` raised `error`."""


class EngineComputation:
    """The `Computation` on the live engine.

    Args:
        transactions, labels: full topic names.
        partitions: the number that both topics have.
        now_us: returns the time at which a vector is computed, in microseconds since the epoch.
    """

    def __init__(
        self,
        *,
        transactions: str,
        labels: str,
        partitions: int,
        store: FeatureStore,
        engine: LiveEngine,
        currencies: CurrencyTable,
        clock: Clock,
        now_us: Callable[[], int],
        metrics: Metrics,
        stages: StageTimers,
        pan_key: bytes | None = None,
        registry: SchemaRegistry | None = None,
    ) -> None:
        self._transactions, self._labels = transactions, labels
        self._store, self._engine, self._currencies = store, engine, currencies
        self._clock, self._now_us, self._metrics, self._stages = clock, now_us, metrics, stages
        self._pan_key, self._registry = pan_key, registry
        self._transactions_placement, self._labels_placement = (
            Placement(topic, partitions, metrics, time.monotonic)
            for topic in (transactions, labels)
        )
        self._refusals = RepeatedLines()

    def decode(self, records: Mapping[int, Sequence[Any]]) -> Arrivals:
        """Decode transaction records by partition number; bad ones become dead letters."""
        flat = [record for some in records.values() for record in some]
        count = len(flat)
        partition = np.repeat(
            np.fromiter(records, np.int64, len(records)),
            np.fromiter(map(len, records.values()), np.int64, len(records)),
        )
        latest, arrived = arrival_times(flat, self._clock.now_ms())
        decoded = decode_transactions(
            [record.value for record in flat],
            now_ms=latest,
            currencies=self._currencies,
            pan_key=self._pan_key,
            registry=self._registry,
        )
        for name, times in decoded.unread.items():
            self._metrics.count("unread_fields", times, field=name)
        columns, ids, cards, bodies = decoded.columns, decoded.ids, decoded.cards, decoded.bodies
        self._transactions_placement.check(cards, partition[decoded.rows])
        dead: dict[tuple[int, int], tuple[bytes | None, bytes]] = {}
        if decoded.rejected:
            columns = _spread(columns, decoded.rows, count)
            ids, cards, bodies = (
                _spread_list(part, decoded.rows, count) for part in (ids, cards, bodies)
            )
            for row, error in decoded.rejected:
                record = flat[row]
                dead[record.partition, record.offset] = self._dead(
                    self._transactions, record, error, self._clock.now_ms()
                )
        return Arrivals(
            partition,
            np.fromiter(map(_OFFSET, flat), np.int64, count),
            arrived,
            columns,
            ids,
            cards,
            bodies,
            dead,
        )

    def transactions(self, batch: Arrivals) -> Computed:
        """Process decoded transactions in their order."""
        good = batch
        if batch.dead:
            good = batch.take(np.flatnonzero(batch.time != NO_TIME))
        opened = self._engine.open(good.columns)
        with self._stages.time("load"):
            values = self._store.load(opened.keys)
        with self._stages.time("compute"):
            result = self._engine.process(good.columns, opened, values)
        with self._stages.time("encode"):
            messages = self._messages(good, result.vectors, result.flags)
            for (partition, _), (key, letter) in sorted(batch.dead.items()):
                into = messages.setdefault(partition, Messages())
                into.dead_keys.append(key)
                into.dead_letters.append(letter)
        self._metrics.count("duplicates", int(np.count_nonzero(result.flags & DUPLICATE)))
        self._metrics.count("late", int(np.count_nonzero(result.flags & LATE)))
        return self._computed(result, messages)

    def labels(self, records: Sequence[Any]) -> Computed:
        """Apply label records in their order."""
        good: list[Label] = []
        numbers: list[int] = []
        messages: dict[int, Messages] = {}
        latest, _ = arrival_times(records, self._clock.now_ms())
        for record, now_ms in zip(records, latest.tolist(), strict=True):
            try:
                label = read_label(
                    record.value or b"",
                    now_ms=now_ms,
                    pan_key=self._pan_key,
                    registry=self._registry,
                )
            except BadMessage as error:
                into = messages.setdefault(record.partition, Messages())
                key, letter = self._dead(self._labels, record, error, self._clock.now_ms())
                into.dead_keys.append(key)
                into.dead_letters.append(letter)
            else:
                good.append(label)
                numbers.append(record.partition)
        self._labels_placement.check(
            [label["card_id"].encode() for label in good], np.array(numbers, np.int64)
        )
        cards = np.array([hash_id(label["card_id"]) for label in good], np.uint64)
        opened = self._engine.open_labels(cards)
        values = self._store.load(opened.keys)
        result, outcomes = self._engine.apply_labels(
            cards,
            np.array([hash_id(label["transaction_id"]) for label in good], np.uint64),
            np.array([label["transaction_time"] for label in good], np.int64),
            np.array([label["label"] == "FRAUD" for label in good], np.bool_),
            opened,
            values,
        )
        for outcome, count in enumerate(np.bincount(outcomes, minlength=len(OUTCOMES)).tolist()):
            if count:
                self._metrics.count("labels_applied", count, outcome=OUTCOMES[outcome])
        return self._computed(result, messages)

    def refuse_transaction(self, row: Arrivals, error: Exception) -> Computed:
        """Return the dead letter of a single row for which `transactions` raised `error`."""
        key, letter = dead_letter(
            self._transactions,
            int(row.partition[0]),
            int(row.offset[0]),
            row.cards[0],
            avro.header("Transaction") + row.bodies[0],
            error,
            self._clock.now_ms(),
        )
        self._metrics.count("dead_letters", error_class=type(error).__name__)
        return Computed(messages={int(row.partition[0]): Messages([], [], [key], [letter])})

    def refuse_label(self, record: Any, error: Exception) -> Computed:
        """Return the dead letter of a single record for which `labels` raised `error`."""
        key, letter = self._dead(self._labels, record, error, self._clock.now_ms())
        return Computed(messages={record.partition: Messages([], [], [key], [letter])})

    def _computed(self, result: LiveResult, messages: dict[int, Messages]) -> Computed:
        """Add that what could not be read is kept aside; count and log it."""
        kept = []
        for refused in result.refused:
            kept.append((refused.kept_as, refused.value[:KEPT_BYTES]))
            self._metrics.count("stored_values_refused", kind=refused.kind)
            left_out = self._refusals.due(refused.kind)
            if left_out is not None:
                log.error(
                    "a stored value cannot be read, so its entity starts anew",
                    kind=refused.kind,
                    key=repr(refused.key),
                    size=len(refused.value),
                    reason=refused.fault,
                    kept_as=repr(refused.kept_as),
                    left_out=left_out,
                )
        return Computed([*result.cards, *kept], result.appends, result.folds, messages)

    def _dead(
        self, topic: str, record: Any, error: Exception, now_ms: int
    ) -> tuple[bytes | None, bytes]:
        self._metrics.count("dead_letters", error_class=type(error).__name__)
        return dead_letter(
            topic, record.partition, record.offset, record.key, record.value, error, now_ms
        )

    def _messages(self, batch: Arrivals, vectors: Any, flags: Any) -> dict[int, Messages]:
        encoded = encode_feature_vectors(
            source_partition=batch.partition,
            source_offset=batch.offset,
            received_at=batch.received_at,
            computed_at=self._now_us(),
            flags=flags,
            vectors=vectors,
            bodies=batch.bodies,
        )
        numbers = np.unique(batch.partition).tolist()
        if len(numbers) == 1:
            return {numbers[0]: Messages(list(batch.cards), encoded)}
        messages = {}
        for number in numbers:
            rows = np.flatnonzero(batch.partition == number)
            messages[number] = Messages(pick(batch.cards, rows), pick(encoded, rows))
        return messages


def _spread(columns: TransactionColumns, rows: Any, count: int) -> TransactionColumns:
    """Put the good rows at their places among `count` rows; the others get NO_TIME."""
    out = empty_columns(count)
    out.time[:] = NO_TIME
    pairs: Any = zip(out, columns, strict=True)
    for into, column in pairs:
        into[rows] = column
    return out


def _spread_list(parts: list[bytes], rows: Any, count: int) -> list[bytes]:
    out = [b""] * count
    for place, part in zip(rows.tolist(), parts, strict=True):
        out[place] = part
    return out
