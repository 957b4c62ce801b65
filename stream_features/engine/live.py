"""The engine over state that lies elsewhere: load what a batch needs, compute, say what to write.

The worker reads the values of `keys`, hands them over, and commits what comes back. Nothing is kept
between batches, so any worker can take any partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.columns import TransactionColumns
from schemas.features import DAY, VECTOR_SIZE
from schemas.keys import EntityKind, entity_key
from stream_features.engine import blob
from stream_features.engine.kernel import (
    CHANGED,
    FOLDED,
    FRAUD_FOUND,
    TO_DEVICE,
    TO_IP,
    TO_MERCHANT,
    Slots,
    Tables,
    fraud_tag,
    new_workspace,
    run,
)
from stream_features.engine.labels import ADDED, REMOVED, resolve_labels
from stream_features.engine.plan import compile_plan
from stream_features.engine.slots import SlotMap
from stream_features.engine.table import (
    CARD_EVENTS,
    SHARED_EVENTS,
    TOUCHED,
    Table,
    grown,
    has_room,
    new_table,
)

KINDS: Final[tuple[EntityKind, ...]] = ("card", "merchant", "device", "ip")
SHARED: Final[tuple[tuple[EntityKind, int], ...]] = (
    ("merchant", TO_MERCHANT),
    ("device", TO_DEVICE),
    ("ip", TO_IP),
)
Ids = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Fold:
    """Replace a shared entity by `value` if it is as it was read, else append `records`."""

    key: bytes
    expected_generation: int
    expected_length: int
    value: bytes
    records: bytes


@dataclass(slots=True)
class LiveResult:
    """What a batch produced: vectors (float32[n, 70]), flags (uint8[n]), and what to write."""

    vectors: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]
    cards: list[tuple[bytes, bytes]] = field(default_factory=list)
    appends: list[tuple[bytes, bytes]] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)


class _Batch:
    """The tables of one batch, filled from the loaded values."""

    def __init__(self, prefix: bytes, loaded: Mapping[bytes, bytes | None]) -> None:
        self._prefix = prefix
        self._loaded = loaded
        self.tables = Tables(
            new_table(CARD_EVENTS, wide=True),
            *(new_table(SHARED_EVENTS, wide=False) for _ in SHARED),
        )
        self.unique: dict[EntityKind, Ids] = {}
        self.generations: dict[EntityKind, list[int]] = {}

    def table(self, kind: EntityKind) -> Table:
        found: Table = getattr(self.tables, kind)
        return found

    def key(self, kind: EntityKind, slot: int) -> bytes:
        return entity_key(self._prefix, kind, int(self.unique[kind][slot]))

    def length(self, key: bytes) -> int:
        """Return the length of a value as it was read."""
        return len(self._loaded.get(key) or b"")

    def load(self, kind: EntityKind, ids: Ids) -> npt.NDArray[np.int64]:
        """Unpack the entities of `ids` (uint64[n]); return the slot of each row."""
        unique = np.unique(ids[ids != 0])
        slot_map = SlotMap()
        order, table = slot_map.assign(unique, self.table(kind))
        slots, table = slot_map.assign(ids, table)
        self.unique[kind] = unique
        self.generations[kind] = [0] * len(unique)
        for slot in order.tolist():
            data = self._loaded.get(self.key(kind, slot))
            while not has_room(table) or _spare(table) < len(data or b""):
                table = grown(_forced(table, len(data or b"")))
            if data is None:
                continue
            view = np.frombuffer(data, np.uint8)
            if kind == "card":
                blob.unpack_card(table, slot, table.m2.view(np.int64), view, 0)
            else:
                self.generations[kind][slot] = int(
                    blob.unpack_shared(table, slot, table.m2.view(np.int64), view, 0, len(view))
                )
        self.tables = self.tables._replace(**{kind: table})
        return slots

    def grow(self) -> None:
        self.tables = Tables(*(grown(table) for table in self.tables))

    def changed(self, kind: EntityKind, bit: int) -> list[int]:
        """Return the slots that carry `bit`."""
        touched = self.table(kind).slots[: len(self.unique[kind]), TOUCHED]
        return np.flatnonzero(touched & bit).tolist()  # type: ignore[no-any-return]

    def packed(self, kind: EntityKind, slot: int) -> bytes:
        """Return the whole value of an entity."""
        table = self.table(kind)
        out = np.empty(int(blob.packed_bound(table, slot)), np.uint8)
        bits = table.m2.view(np.int64)
        if kind == "card":
            end = blob.pack_card(table, slot, bits, out, 0)
        else:
            generation = self.generations[kind][slot] + 1
            end = blob.pack_shared(table, slot, bits, generation, out, 0)
        return out[:end].tobytes()


def _spare(table: Table) -> int:
    """Return how many bytes of records the pool surely takes on top of one entity's room."""
    free = table.pool.shape[1] - int(table.used[0]) - 2 * (table.limit + 2)
    return int(free * blob.RECORD_SIZE)


def _forced(table: Table, size: int) -> Table:
    """Enlarge the pool where a value holds far more records than the limit."""
    if _spare(table) >= size:
        return table
    more = size // blob.RECORD_SIZE + 4 * (table.limit + 2)
    pool = np.zeros((table.pool.shape[0], 2 * table.pool.shape[1] + more), np.int64)
    pool[:, : table.pool.shape[1]] = table.pool
    return table._replace(pool=pool)


def record(kind: int, time: int, value: int) -> bytes:
    """Return one 14-byte record of a shared entity; `value` is taken modulo 2^64."""
    word = time | kind << blob.KIND_SHIFT
    return word.to_bytes(6, "little") + (value & (2**64 - 1)).to_bytes(8, "little")


class LiveEngine:
    """Computes batches; holds scratch but no state. Not thread-safe."""

    def __init__(
        self,
        *,
        prefix: bytes = b"",
        label_delay_ms: int = 7 * DAY,
        merchant_prior: float = 0.005,
        merchant_weight: float = 20.0,
    ) -> None:
        self.plan = compile_plan(
            label_delay_ms=label_delay_ms,
            merchant_prior=merchant_prior,
            merchant_weight=merchant_weight,
        )
        self._prefix = prefix
        self._work = new_workspace(self.plan)

    def keys(self, columns: TransactionColumns) -> list[bytes]:
        """Return every key that `process` needs, each once."""
        found: list[bytes] = []
        for kind in KINDS:
            ids: Ids = getattr(columns, kind)
            unique = np.unique(ids[ids != 0])
            found += [entity_key(self._prefix, kind, identity) for identity in unique.tolist()]
        return found

    def label_keys(self, cards: Ids) -> list[bytes]:
        """Return the keys that `apply_labels` needs, each once."""
        return [entity_key(self._prefix, "card", card) for card in np.unique(cards).tolist()]

    def process(
        self, columns: TransactionColumns, loaded: Mapping[bytes, bytes | None]
    ) -> LiveResult:
        """Process a batch in its order.

        Args:
            columns: n transactions.
            loaded: the stored value of each of `keys(columns)`, None where there is none.
        """
        rows = columns.rows
        batch = _Batch(self._prefix, loaded)
        slots = Slots(*(batch.load(kind, getattr(columns, kind)) for kind in KINDS))
        result = LiveResult(np.empty((rows, VECTOR_SIZE), np.float32), np.zeros(rows, np.uint8))
        effects = np.zeros(rows, np.uint8)
        done = 0
        while done < rows:
            done = run(
                batch.tables, slots, self.plan, columns, self._work, done, result.vectors,
                result.flags, effects,
            )  # fmt: skip
            if done < rows:
                batch.grow()
        records = _new_records(columns, slots, effects)
        for slot in batch.changed("card", CHANGED):
            result.cards.append((batch.key("card", slot), batch.packed("card", slot)))
        for kind, _ in SHARED:
            for slot, parts in records[kind].items():
                self._write_shared(batch, kind, slot, b"".join(parts), result)
        return result

    def _write_shared(
        self, batch: _Batch, kind: EntityKind, slot: int, records: bytes, result: LiveResult
    ) -> None:
        key = batch.key(kind, slot)
        if batch.table(kind).slots[slot, TOUCHED] & FOLDED:
            value = batch.packed(kind, slot)
            generation = batch.generations[kind][slot]
            result.folds.append(Fold(key, generation, batch.length(key), value, records))
        else:
            result.appends.append((key, records))

    def apply_labels(
        self,
        card: Ids,
        transaction: Ids,
        time: npt.NDArray[np.int64],
        fraud: npt.NDArray[np.bool_],
        loaded: Mapping[bytes, bytes | None],
    ) -> tuple[LiveResult, npt.NDArray[np.uint8]]:
        """Apply n labels in order; return what to write and what became of each label.

        Args:
            card, transaction: uint64[n] hashes. time: int64[n], ms, of the transactions.
            fraud: bool[n]. loaded: the stored values of `label_keys(card)`.
        """
        rows = len(card)
        batch = _Batch(self._prefix, loaded)
        slots = batch.load("card", card)
        outcome = np.zeros(rows, np.uint8)
        found = np.zeros((rows, 4), np.int64)
        delay = self.plan.label_delay
        done = 0
        while done < rows:
            done = resolve_labels(
                batch.tables.card, slots, transaction, time, fraud, delay, outcome, found, done
            )
            if done < rows:
                batch.grow()
        result = LiveResult(np.empty((0, VECTOR_SIZE), np.float32), np.zeros(0, np.uint8))
        for slot in batch.changed("card", CHANGED):
            result.cards.append((batch.key("card", slot), batch.packed("card", slot)))
        appends: dict[bytes, list[bytes]] = {}
        for row in np.flatnonzero((outcome == ADDED) | (outcome == REMOVED)).tolist():
            sign = blob.FRAUD_ADDED if fraud[row] else blob.FRAUD_REMOVED
            tag = int(fraud_tag(transaction[row], card[row]))
            entry = record(sign, int(found[row, 3]), tag)
            for position, (kind, _) in enumerate(SHARED):
                identity = int(found[row, position]) & (2**64 - 1)
                if identity:
                    key = entity_key(self._prefix, kind, identity)
                    appends.setdefault(key, []).append(entry)
        result.appends += [(key, b"".join(parts)) for key, parts in appends.items()]
        return result, outcome


def _new_records(
    columns: TransactionColumns, slots: Slots, effects: npt.NDArray[np.uint8]
) -> dict[EntityKind, dict[int, list[bytes]]]:
    """Return, for each shared entity, the records that the batch adds, in order."""
    out: dict[EntityKind, dict[int, list[bytes]]] = {kind: {} for kind, _ in SHARED}
    for kind, bit in SHARED:
        into = out[kind]
        of: npt.NDArray[np.int64] = getattr(slots, kind)
        values: npt.NDArray[Any] = columns.amount if kind == "merchant" else columns.card
        for row in np.flatnonzero(effects & (bit | FRAUD_FOUND)).tolist():
            slot = int(of[row])
            if slot < 0:
                continue
            time = int(columns.time[row])
            parts = into.setdefault(slot, [])
            if effects[row] & bit:
                parts.append(record(blob.EVENT, time, int(values[row])))
            if effects[row] & FRAUD_FOUND:
                tag = int(fraud_tag(columns.transaction[row], columns.card[row]))
                parts.append(record(blob.FRAUD_ADDED, time, tag))
    return out
