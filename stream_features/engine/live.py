"""The engine over state that is stored elsewhere, one batch at a time.

The caller loads the values of the keys that a batch needs, passes them in, and writes the changes
that come back. The engine keeps no state between batches, so any worker can take over any
partition. It does no I/O:

>>> from schemas.columns import empty_columns
>>> columns = empty_columns(2)._replace(
...     time=np.array([0, 60_000]),
...     amount=np.array([1_000, 2_000]),
...     card=np.array([7, 7], np.uint64),
...     transaction=np.array([1, 2], np.uint64),
... )
>>> engine = LiveEngine()
>>> opened = engine.open(columns)
>>> result = engine.process(columns, opened, values=[None] * len(opened.keys))
>>> result.vectors.shape, len(result.cards)
((2, 70), 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.columns import TransactionColumns
from schemas.features import DAY, VECTOR_SIZE
from schemas.hash_table import new_table, table_size
from schemas.keys import KEY_LETTER, EntityKind, entity_key, refused_key
from stream_features.engine.kernel import Slots, compute
from stream_features.engine.passes.fraud_labels import ADDED, REMOVED, resolve_labels
from stream_features.engine.passes.workspace import (
    CHANGED,
    FOLDED,
    TO_DEVICE,
    TO_IP,
    TO_MERCHANT,
    fraud_tag,
    new_workspace,
)
from stream_features.engine.plan import compile_plan
from stream_features.engine.state.batch import (
    open_slots,
    pack_entities,
    unpack_entities,
    write_keys,
    write_records,
)
from stream_features.engine.state.blob import FRAUD_ADDED, FRAUD_REMOVED, KIND_SHIFT, RECORD_SIZE
from stream_features.engine.state.blob_check import FAULTS, SOUND
from stream_features.engine.state.entities import TOUCHED, Table, grown, larger_pool, new_tables
from stream_features.engine.state.packing import SLACK

KINDS: Final[tuple[EntityKind, ...]] = ("card", "merchant", "device", "ip")
SHARED: Final[tuple[tuple[EntityKind, int], ...]] = (
    ("merchant", TO_MERCHANT),
    ("device", TO_DEVICE),
    ("ip", TO_IP),
)
MAX_APPENDED_BYTES: Final = 2_800
"""A shared entity of more bytes is rewritten as a whole, because Redis reserves up to twice the
memory of a value that is appended to."""
Ids = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Values = Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Fold:
    """Replaces a shared entity by `value` if it is as it was read, else appends `records`."""

    key: bytes
    expected_generation: int
    expected_length: int
    value: bytes
    records: bytes


class RefusedValue(NamedTuple):
    """A stored value that cannot be unpacked; its entity is treated as a new one.

    `fault` says what is wrong with it, and `kept_as` is the key under which it may be kept.
    """

    kind: EntityKind
    key: bytes
    kept_as: bytes
    value: bytes
    fault: str


@dataclass(slots=True)
class LiveResult:
    """The result of a batch: vectors (float32[n, 70]), flags (uint8[n]) and the changes to write.

    The changes (`cards`, `appends`, `folds`) must be written all together or not at all, as
    `runtime.feature_store.protocol.Commit` describes. They replace `refused` values, as far as the
    batch changes their entities.
    """

    vectors: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]
    cards: list[tuple[bytes, bytes]] = field(default_factory=list)
    appends: list[tuple[bytes, bytes]] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)
    refused: list[RefusedValue] = field(default_factory=list)


class _Group(NamedTuple):
    """The entities of one kind: slot of each row, id of each slot, and place of the first key."""

    slots: Ints
    distinct: Ids
    first: int


class Opened(NamedTuple):
    """A batch whose entities have slots; `keys` are the distinct keys to load."""

    groups: dict[EntityKind, _Group]
    keys: list[bytes]


class Unpacked(NamedTuple):
    """A batch whose entities are in the tables; `bounds` are the offsets of the joined values."""

    groups: dict[EntityKind, _Group]
    keys: list[bytes]
    bounds: Ints
    generations: Ints
    faults: npt.NDArray[np.uint8]
    refused: list[RefusedValue]


class LiveEngine:
    """Computes batches. Holds scratch memory but no state. Not thread-safe.

    The calls come in pairs, `open` and `process` or `open_labels` and `apply_labels`; a second
    `open` invalidates the first. The results equal those of `offline.OfflineEngine` bit for bit,
    however the records are cut into batches, as long as their order is the same.

    Args:
        prefix: put in front of every key.
        label_delay_ms: the age (ms) that a transaction must reach before its label counts.
        merchant_prior, merchant_weight: the fraud rate assumed of an unknown merchant, and the
            number of transactions that this assumption weighs as much as.
    """

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
        self._prefix_bytes = np.frombuffer(prefix, np.uint8)
        self._work = new_workspace(self.plan)
        self._tables = new_tables()
        self._slot_of = new_table(32)
        self._out = np.empty(2**16, np.uint8)

    def open(self, columns: TransactionColumns) -> Opened:
        """Return the keys that a batch needs; `process` must come next."""
        return self._opened({kind: getattr(columns, kind) for kind in KINDS})

    def open_labels(self, cards: Ids) -> Opened:
        """Return the keys of cards (uint64[n] hashes); `apply_labels` must come next."""
        return self._opened({"card": cards})

    def process(self, columns: TransactionColumns, opened: Opened, values: Values) -> LiveResult:
        """Process n transactions in their order.

        Args:
            columns: n transactions.
            opened: the result of the latest `open(columns)`.
            values: the stored values of `opened.keys`, None for a missing one.
        """
        unpacked = self.unpack(opened, values)
        result, effects = self.run(columns, unpacked)
        self.pack(columns, unpacked, effects, result)
        return result

    def unpack(self, opened: Opened, values: Values) -> Unpacked:
        """Unpack the values into the tables, except bad ones; the first step of `process`."""
        groups = opened.groups
        parts = [value or b"" for value in values]
        bounds = np.zeros(len(parts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=bounds[1:])
        parts.append(bytes(SLACK))
        data = np.frombuffer(b"".join(parts), np.uint8)
        generations, faults = np.zeros(len(values), np.int64), np.zeros(len(values), np.uint8)
        for kind, (_, distinct, first) in groups.items():
            last = first + len(distinct)
            own: Any = (bounds[first : last + 1], generations[first:last], faults[first:last])
            done = 0
            while True:
                table = self._table(kind)
                done = unpack_entities(table, data, *own, done, self.plan.label_delay)
                if done == len(distinct):
                    break
                self._replace(kind, larger_pool(grown(table)))
        refused = self._refused(opened, parts, faults) if faults.any() else []
        return Unpacked(groups, opened.keys, bounds, generations, faults, refused)

    def run(
        self, columns: TransactionColumns, opened: Unpacked
    ) -> tuple[LiveResult, npt.NDArray[np.uint8]]:
        """Compute vectors and flags, and effects (see `workspace`); the second step of `process`."""
        slots = Slots(*(opened.groups[kind].slots for kind in KINDS))
        self._tables, rows = compute(self._tables, slots, self.plan, columns, self._work)
        return LiveResult(rows.vectors, rows.flags, refused=opened.refused), rows.effects

    def pack(
        self,
        columns: TransactionColumns,
        opened: Unpacked,
        effects: npt.NDArray[np.uint8],
        result: LiveResult,
    ) -> None:
        """Add the changes to `result`; the last step of `process`."""
        result.cards = [(key, value) for key, value, _ in self._packed("card", CHANGED, opened)]
        for kind, bit in SHARED:
            group = opened.groups[kind]
            ends = np.empty(len(group.distinct), np.int64)
            self._reserve((2 * columns.rows + 1) * RECORD_SIZE)
            values = columns.spent if kind == "merchant" else columns.card.view(np.int64)
            total = write_records(group.slots, effects, bit, columns, values, self._out, ends)
            records = self._out[:total].tobytes()
            folded = {}
            last = group.first + len(ends)
            touched = self._table(kind).slots[: len(ends), TOUCHED]
            lengths = np.diff(opened.bounds[group.first : last + 1])
            whole = (lengths > MAX_APPENDED_BYTES) | (opened.faults[group.first : last] != SOUND)
            touched[whole & (touched != 0)] |= FOLDED
            if (touched & FOLDED).any():
                folded = {key: (v, at) for key, v, at in self._packed(kind, FOLDED, opened)}
            start = 0
            for key, end in zip(opened.keys[group.first : last], ends.tolist(), strict=True):
                if end > start and key in folded:
                    value, at = folded[key]
                    length = int(opened.bounds[at + 1] - opened.bounds[at])
                    generation = int(opened.generations[at])
                    result.folds.append(Fold(key, generation, length, value, records[start:end]))
                elif end > start:
                    result.appends.append((key, records[start:end]))
                start = end

    def apply_labels(
        self,
        card: Ids,
        transaction: Ids,
        time: Ints,
        fraud: npt.NDArray[np.bool_],
        opened: Opened,
        values: Values,
    ) -> tuple[LiveResult, npt.NDArray[np.uint8]]:
        """Apply n labels in their order; return the changes to write and the outcome of each label.

        Args:
            card, transaction: uint64[n] hashes.
            time: int64[n], event times (ms) of the transactions.
            fraud: bool[n]; False takes an earlier fraud label back.
            opened, values: the result of the latest `open_labels(card)`, and the stored values.

        Returns:
            The changes, with empty vectors, and outcomes (uint8[n], see `passes.fraud_labels`).
        """
        rows = len(card)
        unpacked = self.unpack(opened, values)
        slots = unpacked.groups["card"].slots
        outcome = np.zeros(rows, np.uint8)
        found = np.zeros((rows, 4), np.int64)
        delay = self.plan.label_delay
        done = 0
        while done < rows:
            table = self._tables.card
            done = resolve_labels(
                table, slots, transaction, time, fraud, delay, outcome, found, done
            )
            if done < rows:
                self._replace("card", grown(table))
        result = LiveResult(
            np.empty((0, VECTOR_SIZE), np.float32), np.zeros(0, np.uint8), refused=unpacked.refused
        )
        result.cards = [(key, value) for key, value, _ in self._packed("card", CHANGED, unpacked)]
        appends: dict[bytes, list[bytes]] = {}
        for row in np.flatnonzero((outcome == ADDED) | (outcome == REMOVED)).tolist():
            sign = FRAUD_ADDED if fraud[row] else FRAUD_REMOVED
            tag = int(fraud_tag(transaction[row], card[row]))
            entry = record(sign, int(found[row, 3]), tag)
            for position, (kind, _) in enumerate(SHARED):
                identity = int(found[row, position]) & (2**64 - 1)
                if identity:
                    key = entity_key(self._prefix, kind, identity)
                    appends.setdefault(key, []).append(entry)
        result.appends += [(key, b"".join(parts)) for key, parts in appends.items()]
        return result, outcome

    def _table(self, kind: EntityKind) -> Table:
        found: Table = getattr(self._tables, kind)
        return found

    def _replace(self, kind: EntityKind, table: Table) -> None:
        self._tables = self._tables._replace(**{kind: table})

    def _reserve(self, size: int) -> None:
        if size > len(self._out):
            self._out = np.empty(max(size, 2 * len(self._out)), np.uint8)

    def _opened(self, ids: dict[EntityKind, Ids]) -> Opened:
        """Empty the tables, give the entities their slots, and return their keys."""
        groups: dict[EntityKind, _Group] = {}
        first = 0
        for kind, mine in ids.items():
            size = table_size(len(mine))
            if size > len(self._slot_of):
                self._slot_of = new_table(len(mine))
            if len(mine) > len(self._table(kind).slots):
                self._replace(kind, grown(self._table(kind), slots=len(mine)))
            slots, distinct = np.empty(len(mine), np.int64), np.empty(len(mine), np.uint64)
            count = open_slots(self._table(kind), self._slot_of[:size], mine, slots, distinct)
            groups[kind] = _Group(slots, distinct[:count], first)
            first += count
        return Opened(groups, self._keys(groups))

    def _keys(self, groups: dict[EntityKind, _Group]) -> list[bytes]:
        width = len(self._prefix) + 9
        size = width * sum(len(group.distinct) for group in groups.values())
        self._reserve(size + SLACK)
        at = 0
        for kind, group in groups.items():
            letter = KEY_LETTER[kind][0]
            at = write_keys(self._prefix_bytes, letter, group.distinct, self._out, at)
        keys: list[bytes] = self._out[:size].view(f"V{width}").tolist()
        return keys

    def _refused(
        self, opened: Opened, values: Sequence[bytes], faults: npt.NDArray[np.uint8]
    ) -> list[RefusedValue]:
        found = []
        for kind, group in opened.groups.items():
            for place in range(group.first, group.first + len(group.distinct)):
                if faults[place] != SOUND:
                    key, fault = opened.keys[place], FAULTS[faults[place]]
                    kept_as = refused_key(self._prefix, key)
                    found.append(RefusedValue(kind, key, kept_as, values[place], fault))
        return found

    def _packed(
        self, kind: EntityKind, bit: int, opened: Unpacked
    ) -> list[tuple[bytes, bytes, int]]:
        """Return key, whole value and place among the keys of the entities that carry `bit`."""
        group = opened.groups[kind]
        count = len(group.distinct)
        generations = opened.generations[group.first : group.first + count]
        which, ends = np.empty(count, np.int64), np.empty(count, np.int64)
        arguments: Any = (self._table(kind), bit, generations)
        packed = pack_entities(*arguments, self._out, which, ends)
        if packed < 0:
            self._reserve(-packed)
            packed = pack_entities(*arguments, self._out, which, ends)
        stops = ends[:packed].tolist()
        data = self._out[: stops[-1] if stops else 0].tobytes()
        out, start = [], 0
        for place, stop in zip((which[:packed] + group.first).tolist(), stops, strict=True):
            out.append((opened.keys[place], data[start:stop], place))
            start = stop
        return out


def record(kind: int, time: int, value: int) -> bytes:
    """Return one record of a shared entity; `value` is stored modulo 2^64."""
    word = time | kind << KIND_SHIFT
    return word.to_bytes(6, "little") + (value & (2**64 - 1)).to_bytes(8, "little")
