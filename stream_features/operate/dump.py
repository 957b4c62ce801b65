"""Writes the vectors on `features` to a table like that of `replay`, with their source positions.

After a crash or a rebalance a vector may be on the topic more than once; all its copies must then
have the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from runtime.kafka.protocols import Message
from runtime.kafka.reader import KafkaReader, end_offsets
from runtime.settings import Settings
from schemas.codec.vectors import decode_feature_vectors
from schemas.errors import ConfigurationError
from schemas.features import NAMES
from schemas.mapping.event_order import event_order
from schemas.topics import FEATURES
from stream_features.engine.passes.workspace import DUPLICATE, LATE

BATCH: Final = 10_000
Progress = Callable[[int, int], None]
"""Called with the number of messages read and the total."""


@dataclass(slots=True)
class DumpCounts:
    """The counts of a dump; `conflicts` are source positions with two different messages."""

    messages: int = 0
    rows: int = 0
    repeated: int = 0
    unreadable: int = 0
    conflicts: int = 0
    examples: list[tuple[int, int]] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Return the counts for a JSON report."""
        return {
            "messages": self.messages,
            "rows": self.rows,
            "repeated": self.repeated,
            "unreadable": self.unreadable,
            "conflicts": self.conflicts,
            "conflicting_positions": [list(position) for position in self.examples],
        }


class _DistinctVectors:
    """Collects the first message of each source position."""

    def __init__(self) -> None:
        self.counts = DumpCounts()
        self._seen: dict[tuple[int, int], int] = {}
        self._parts: list[pa.Table] = []

    def add(self, messages: list[Message]) -> None:
        values = [message.value for message in messages]
        decoded = decode_feature_vectors(values)
        self.counts.messages += len(messages)
        self.counts.unreadable += len(decoded.rejected)
        fresh: list[int] = []
        positions = zip(
            decoded.source_partition.tolist(), decoded.source_offset.tolist(), strict=True
        )
        for row, (position, place) in enumerate(zip(positions, decoded.rows.tolist(), strict=True)):
            digest = hash(values[place])
            if self._seen.setdefault(position, digest) != digest:
                self.counts.conflicts += 1
                self.counts.examples = [*self.counts.examples, position][:10]
            elif len(self._seen) > self.counts.rows:
                self.counts.rows += 1
                fresh.append(row)
            else:
                self.counts.repeated += 1
        kept = decoded.take(np.array(fresh, np.int64))
        self._parts.append(
            pa.table(
                {
                    "transaction_id": pa.array(kept.raw("transaction_id"), pa.string()),
                    "card_id": pa.array(kept.raw("card_id"), pa.string()),
                    "event_time": kept.event_time,
                    "duplicate": (kept.flags & DUPLICATE) != 0,
                    "late": (kept.flags & LATE) != 0,
                    **dict(zip(NAMES, np.ascontiguousarray(kept.matrix.T), strict=True)),
                    "source_partition": kept.source_partition.astype(np.int32),
                    "source_offset": kept.source_offset,
                }
            )
        )

    def whole(self) -> pa.Table:
        table = pa.concat_tables(self._parts)
        return table.take(pa.array(event_order(table)))


def dump(settings: Settings, output: Path, progress: Progress) -> DumpCounts:
    """Write all vectors up to the present end to a Parquet file, in event order. Blocks.

    Raises:
        ConfigurationError: the file cannot be written.
        BrokerUnavailable: Kafka does not answer, or the topic does not exist.
    """
    topic = settings.topic(FEATURES)
    ends = end_offsets(settings, topic)
    table, total = _DistinctVectors(), sum(ends.values())
    reader = KafkaReader(settings, topic)
    table.add([])
    try:
        following = dict(reader.positions())
        while any(following[number] < end for number, end in ends.items()):
            messages = reader.poll_batch(BATCH, 0.5)
            following = reader.positions()
            table.add([each for each in messages if each.offset < ends[each.partition]])
            progress(table.counts.messages, total)
    finally:
        reader.close()
    try:
        pa.parquet.write_table(table.whole(), output, compression="lz4", use_dictionary=False)
    except OSError as error:
        raise ConfigurationError(f"cannot write {output}: {error}") from error
    return table.counts
