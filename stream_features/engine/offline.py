"""The engine with all state in memory, for replay and training.

>>> from schemas.columns import empty_columns
>>> columns = empty_columns(2)._replace(
...     time=np.array([0, 60_000]),
...     amount=np.array([1_000, 2_000]),
...     card=np.array([7, 7], np.uint64),
...     transaction=np.array([1, 2], np.uint64),
... )
>>> vectors, flags = OfflineEngine().process(columns)
>>> vectors.shape, vectors.dtype, flags.tolist()
((2, 70), dtype('float32'), [0, 0])
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.columns import TransactionColumns
from schemas.features import DAY
from stream_features.engine.kernel import Slots, compute
from stream_features.engine.passes.fraud_labels import ADDED, REMOVED, resolve_labels
from stream_features.engine.passes.shared_rows import attribute_frauds
from stream_features.engine.passes.workspace import fraud_tags, new_workspace
from stream_features.engine.plan import compile_plan
from stream_features.engine.state.entities import (
    CARD_EVENTS,
    SHARED_EVENTS,
    Table,
    Tables,
    grown,
    new_tables,
)
from stream_features.engine.state.slots import SlotMap

SHARED = ("merchant", "device", "ip")


class OfflineEngine:
    """Computes vectors from transactions and labels given in event order. Not thread-safe.

    A vector depends only on transactions and labels given earlier. The results equal those of
    `live.LiveEngine` bit for bit, however the transactions are cut into calls. State grows with the
    number of entities, not with that of their events: an entity keeps at most `card_events` or
    `shared_events` exact events and folds older ones into tiles (see `state.fold`).

    Args:
        label_delay_ms: the age (ms) that a transaction must reach before its label counts.
        merchant_prior, merchant_weight: the fraud rate assumed of an unknown merchant, and the
            number of transactions that this assumption weighs as much as.

    Raises:
        ConfigurationError: the label delay is below 1 ms, or `card_events` is too large.
    """

    def __init__(
        self,
        *,
        label_delay_ms: int = 7 * DAY,
        merchant_prior: float = 0.005,
        merchant_weight: float = 20.0,
        card_events: int = CARD_EVENTS,
        shared_events: int = SHARED_EVENTS,
    ) -> None:
        self.plan = compile_plan(
            label_delay_ms=label_delay_ms,
            merchant_prior=merchant_prior,
            merchant_weight=merchant_weight,
        )
        self._work = new_workspace(self.plan)
        self._maps = {name: SlotMap() for name in Tables._fields}
        self.tables = new_tables(card_events, shared_events)

    def _assign(self, name: str, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        table: Table = getattr(self.tables, name)
        slots, table = self._maps[name].assign(ids, table)
        self.tables = self.tables._replace(**{name: table})
        return slots

    def _grow(self) -> None:
        self.tables = Tables(*(grown(table) for table in self.tables))

    def process(
        self, columns: TransactionColumns
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Compute n transactions in their order and add them to the state.

        Their event times should ascend. A transaction older than what its card retains is flagged
        LATE, and a known one DUPLICATE; both get a vector and leave the state as it was.

        Returns:
            Vectors (float32[n, 70], undefined features are NaN) and flags (uint8[n], DUPLICATE and
            LATE of `passes.workspace`).
        """
        slots = Slots(*(self._assign(name, getattr(columns, name)) for name in Slots._fields))
        self.tables, rows = compute(self.tables, slots, self.plan, columns, self._work)
        return rows.vectors, rows.flags

    def apply_labels(
        self,
        card: npt.NDArray[np.uint64],
        transaction: npt.NDArray[np.uint64],
        time: npt.NDArray[np.int64],
        fraud: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.uint8]:
        """Apply n labels in their order; return their outcomes (uint8[n], see `fraud_labels`).

        A label may come before its transaction. The latest label wins.

        Args:
            card, transaction: uint64[n] hashes.
            time: int64[n], event times (ms) of the transactions.
            fraud: bool[n]; False takes an earlier fraud label back.
        """
        slots = self._assign("card", card)
        rows = len(slots)
        outcome = np.zeros(rows, np.uint8)
        found = np.zeros((rows, 4), np.int64)
        delay = self.plan.label_delay
        done = 0
        while done < rows:
            table = self.tables.card
            done = resolve_labels(
                table, slots, transaction, time, fraud, delay, outcome, found, done
            )
            if done < rows:
                self._grow()
        changed = np.flatnonzero((outcome == ADDED) | (outcome == REMOVED))
        tags = fraud_tags(transaction[changed], card[changed])
        for position, name in enumerate(SHARED):
            ids = np.ascontiguousarray(found[changed, position]).view(np.uint64)
            self._attribute(name, ids, found[changed, 3], tags, fraud[changed])
        return outcome

    def _attribute(
        self,
        name: str,
        ids: npt.NDArray[np.uint64],
        times: npt.NDArray[np.int64],
        tags: npt.NDArray[np.int64],
        fraud: npt.NDArray[np.bool_],
    ) -> None:
        slots = self._assign(name, ids)
        done = 0
        while done < len(slots):
            table: Table = getattr(self.tables, name)
            done = attribute_frauds(table, slots, times, tags, fraud, done, self.plan.label_delay)
            if done < len(slots):
                self._grow()
