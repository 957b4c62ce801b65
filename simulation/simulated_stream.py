"""The stream processor's part: transactions to feature messages, labels to their effect.

The engine is the offline one, which gives the vectors of the live path bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.codec.transactions import decode_transactions
from schemas.codec.vectors import encode_feature_vectors
from schemas.currency import CurrencyTable
from schemas.errors import FatalError
from schemas.topics import FEATURES, LABELS
from simulation.simulated_world import SimulatedWorld
from stream_features.engine.offline import OfflineEngine

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelBatch:
    """m labels in the order in which they became known: rows of the world, and what they say."""

    rows: Ints
    fraud: npt.NDArray[np.bool_]
    known: Ints
    source: Sequence[str]

    def __len__(self) -> int:
        """Number of labels."""
        return len(self.rows)


class SimulatedStream:
    """Messages of `features` and `labels` of one world, in order. Not thread-safe."""

    def __init__(
        self, world: SimulatedWorld, currencies: CurrencyTable, label_delay_ms: int
    ) -> None:
        self._world, self._currencies = world, currencies
        self._engine = OfflineEngine(label_delay_ms=label_delay_ms)
        self._card = np.zeros(len(world), np.uint64)
        self._transaction = np.zeros(len(world), np.uint64)
        self._labels = 0

    def features(self, rows: range, now_ms: int) -> list[Message]:
        """Return the vectors of the rows, which come after those of the calls before."""
        if not len(rows):
            return []
        place = slice(rows.start, rows.stop)
        time = self._world.time[place]
        values = self._world.messages[place].to_pylist()
        decoded = decode_transactions(values, now_ms=time, currencies=self._currencies)
        if decoded.rejected:
            raise FatalError(f"the generated world has a bad transaction: {decoded.rejected[0][1]}")
        self._card[place] = decoded.columns.card
        self._transaction[place] = decoded.columns.transaction
        vectors, flags = self._engine.process(decoded.columns)
        made = encode_feature_vectors(
            source_partition=np.zeros(len(rows), np.int64),
            source_offset=np.arange(rows.start, rows.stop),
            received_at=time,
            computed_at=now_ms * 1_000,
            flags=flags,
            vectors=vectors,
            bodies=decoded.bodies,
        )
        return [
            Message(FEATURES.name, 0, row, now_ms, None, value)
            for row, value in zip(rows, made, strict=True)
        ]

    def labels(self, batch: LabelBatch, now_ms: int) -> list[Message]:
        """Apply labels of transactions that came before, and return their messages."""
        if not len(batch):
            return []
        rows, world = batch.rows, self._world
        self._engine.apply_labels(
            self._card[rows], self._transaction[rows], world.time[rows], batch.fraud
        )
        messages = []
        for row, fraud, known, source in zip(
            rows.tolist(), batch.fraud.tolist(), batch.known.tolist(), batch.source, strict=True
        ):
            card = world.card_id[row].as_py()
            label = {
                "transaction_id": world.transaction_id[row].as_py(),
                "card_id": card,
                "label": "FRAUD" if fraud else "GENUINE",
                "source": source,
                "transaction_time": int(world.time[row]),
                "label_time": known,
            }
            messages.append(
                Message(
                    LABELS.name, 0, self._labels, now_ms, card.encode(),
                    avro.encode("Label", label),
                )
            )  # fmt: skip
            self._labels += 1
        return messages
