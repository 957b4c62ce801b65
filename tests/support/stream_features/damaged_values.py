"""Stored values that were changed, and what they do to the engine.

`Subject` holds good values of every kind, made by the engine itself, and runs a batch in which one
of them is replaced. A value may be refused, or taken as it is; it must not end the process, raise,
or change anything of the entities beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Final

import numpy as np
from rich.console import Console

from schemas.columns import TransactionColumns, empty_columns
from schemas.errors import UnreadableValue
from schemas.features import DAY, HOUR
from schemas.keys import EntityKind, entity_key
from stream_features.engine.live import LiveEngine, LiveResult, RefusedValue
from stream_features.engine.state.blob import NEW_SHARED
from stream_features.operate.show import readable, state_of

START: Final = 1_700_000_000_000
KINDS: Final[tuple[EntityKind, ...]] = ("card", "merchant", "device", "ip")
SUBJECT: Final = np.uint64(7)
"""The hash of the entity, of each kind, whose value is changed."""
OTHER: Final = np.uint64(8)
"""The hash of its neighbours, whose values stay as they are."""
WORDS: Final = tuple(
    sign * (2**power) + more for power in (7, 8, 15, 16, 31, 40, 62) for sign in (1, -1)
    for more in (-1, 0, 1)
)  # fmt: skip
"""Numbers at the bounds of the widths."""


class Store(dict[bytes, bytes]):
    """What a commit does to stored values."""

    def write(self, result: LiveResult) -> None:
        """Apply the changes of a batch."""
        self.update(result.cards)
        for key, records in result.appends:
            self[key] = self.get(key, NEW_SHARED) + records
        for fold in result.folds:
            held = self.get(fold.key, b"")
            generation = int.from_bytes(held[:4], "little")
            if (generation, len(held)) == (fold.expected_generation, fold.expected_length):
                self[fold.key] = fold.value
            else:
                self[fold.key] = (held or NEW_SHARED) + fold.records


def history(rows: int, *, entities: int, span: int, seed: int) -> TransactionColumns:
    """Return transactions of a few entities; the first ones are SUBJECT and OTHER."""
    draw = np.random.default_rng(seed)

    def hashes() -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        known = draw.integers(2**40, 2**64 - 1, entities, np.uint64)
        known[:2] = SUBJECT, OTHER
        return known[draw.integers(0, entities, rows)]

    return empty_columns(rows)._replace(
        time=START + np.sort(draw.integers(0, span, rows)),
        amount=draw.integers(0, 2 ** draw.integers(1, 40), rows),
        transaction=draw.integers(2**40, 2**64 - 1, rows, np.uint64),
        card=hashes(),
        merchant=hashes(),
        device=hashes(),
        ip=hashes(),
        position=draw.integers(0, 2**62, rows).astype(np.uint64) * (draw.random(rows) < 0.7),
        mcc=draw.integers(-1, 30, rows).astype(np.int32),
        kind=draw.choice(np.array([0, 0, 0, 1, 2, 3], np.int8), rows),
        merchant_country=draw.integers(0, 5, rows).astype(np.uint16),
    )


def good_values() -> Iterator[tuple[EntityKind, bytes]]:
    """Yield values as the engine writes them: of new, usual and hot entities, with labels."""
    for rows, entities, span in ((3, 2, DAY), (150, 4, 30 * DAY), (900, 3, 2 * HOUR)):
        engine, store = LiveEngine(), Store()
        columns = history(rows, entities=entities, span=span, seed=rows)
        for first in range(0, rows, 50):
            batch = columns.cut(first, first + 50)
            opened = engine.open(batch)
            store.write(engine.process(batch, opened, [store.get(key) for key in opened.keys]))
            opened = engine.open_labels(batch.card)
            fraud = np.arange(batch.rows) % 3 > 0
            ahead = batch.transaction ^ (np.arange(batch.rows) % 5 == 0)
            labels = (batch.card, ahead, batch.time, fraud, opened)
            values = [store.get(key) for key in opened.keys]
            store.write(engine.apply_labels(*labels, values)[0])
        for kind in KINDS:
            yield kind, store[entity_key(b"", kind, int(SUBJECT))]


class Subject:
    """Runs batches over values of which one was changed.

    Args:
        good: good values, see `good_values`.
    """

    def __init__(self, good: list[tuple[EntityKind, bytes]]) -> None:
        self.good = good
        self._engine = LiveEngine()
        self._neighbours = {entity_key(b"", kind, int(OTHER)): value for kind, value in good[4:8]}
        self._batch = history(40, entities=2, span=HOUR, seed=5)._replace(
            time=START + 30 * DAY + np.arange(40) * 1_000
        )
        half = np.arange(40) % 2 == 0
        for column in (self._batch.card, self._batch.merchant, self._batch.device, self._batch.ip):
            column[half], column[~half] = SUBJECT, OTHER
        self._expected = self._run("card", b"")[0].vectors[~half].tobytes()
        self._others = ~half

    def harm(self, kind: EntityKind, value: bytes) -> list[RefusedValue]:
        """Run transactions and labels of an entity with this value; return what was refused.

        Raises:
            AssertionError: its neighbours do not have the features that they have without it, or
                the value is still refused after the batch was written.
        """
        result, store = self._run(kind, value)
        assert result.vectors[self._others].tobytes() == self._expected, "a neighbour was changed"
        key = entity_key(b"", kind, int(SUBJECT))
        if result.refused:
            [refused] = result.refused
            assert (refused.key, refused.value) == (key, value)
        store.write(result)
        opened = self._engine.open(self._batch)
        again = self._engine.process(self._batch, opened, [store.get(k) for k in opened.keys])
        assert not again.refused, "what was written after a refusal can be read"
        opened = self._engine.open_labels(self._batch.card)
        values = [value if k == key else self._neighbours.get(k) for k in opened.keys]
        fraud = np.ones(40, np.bool_)
        labels = (self._batch.card, self._batch.transaction, self._batch.time, fraud, opened)
        self._engine.apply_labels(*labels, values)
        self._show(kind, key, value, refused=bool(result.refused))
        return result.refused

    def _show(self, kind: EntityKind, key: bytes, value: bytes, *, refused: bool) -> None:
        """Show the entity to a person and to a program, as the gateway does."""
        try:
            state = state_of(kind, "7", key, value, 1, 7 * DAY)
        except UnreadableValue:
            assert refused, "it is taken by the engine"
            return
        assert not refused, "it is refused by the engine"
        json.dumps(state.report())
        Console(file=StringIO()).print(readable(state, 2))

    def _run(self, kind: EntityKind, value: bytes) -> tuple[LiveResult, Store]:
        store = Store(self._neighbours)
        if value:
            store[entity_key(b"", kind, int(SUBJECT))] = value
        opened = self._engine.open(self._batch)
        values = [store.get(key) for key in opened.keys]
        return self._engine.process(self._batch, opened, values), store


def changed(value: bytes, draw: np.random.Generator) -> bytes:
    """Return a value with one to three random changes: bits, words, cuts, repeats, other counts."""
    data = bytearray(value)
    for _ in range(draw.integers(1, 4)):
        at = (
            int(draw.integers(0, len(data) + 1))
            if draw.random() < 0.5
            else int(draw.integers(0, 24))
        )
        at = min(at, len(data))
        match int(draw.integers(0, 7)):
            case 0 if at < len(data):
                data[at] ^= 1 << int(draw.integers(0, 8))
            case 1 if at < len(data):
                data[at] = int(draw.choice([0, 1, 8, 9, 10, 127, 128, 255]))
            case 2:
                word = int(draw.choice(WORDS)) & (2**64 - 1)
                data[at : at + int(draw.integers(1, 9))] = word.to_bytes(8, "little")
            case 3:
                del data[at:]
            case 4:
                del data[at : at + int(draw.integers(1, 9))]
            case 5:
                data[at:at] = draw.bytes(int(draw.integers(1, 20)))
            case _:
                data[at:at] = data[at : at + int(draw.integers(1, 40))]
    return bytes(data)
