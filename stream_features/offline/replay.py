"""Replays a table through the offline engine, with the same vectors as live processing.

Transactions are processed in the order (event_time, length of transaction_id, transaction_id), in
which a worker merges its partitions too. A label is applied before the first transaction whose
event time is not earlier than the label time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.columns import KINDS, TransactionColumns
from schemas.features import DAY, NAMES, VECTOR_SIZE
from schemas.mapping.event_order import event_order
from stream_features.engine.offline import OfflineEngine
from stream_features.engine.passes.workspace import DUPLICATE, LATE
from stream_features.offline.feature_file import FeatureFile
from stream_features.offline.transaction_table import table_columns

CHUNK: Final = 65_536
"""Rows in one call of the engine: enough for an entity to have several in a call."""
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Replay:
    """Vectors (float32[n, 70]) and flags (uint8[n]) in event order, and the rows (int64[n])."""

    vectors: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]
    order: npt.NDArray[np.int64]


class Piece(NamedTuple):
    """Rows first..last-1 in event order: transactions, vectors and flags.

    `seconds` is the time that the engine took for them and for the labels applied before them.
    """

    first: int
    last: int
    columns: TransactionColumns
    vectors: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]
    seconds: float


class Replayed(NamedTuple):
    """The result of `replay_to_file`; `engine_seconds` is the time spent in the engine.

    `told` is as `told_of` counts.
    """

    transactions: int
    engine_seconds: float
    told: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Frauds:
    """The fraud labels of a replay, as rows in event order.

    A label counts only once its transaction is as old as the label delay. A `prompt` label, known
    by then, may be applied at any time between its transaction and that moment; a `slow` one is
    applied when it becomes known.
    """

    prompt: npt.NDArray[np.int64]
    slow: npt.NDArray[np.int64]
    slow_time: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        time: npt.NDArray[np.int64],
        label: npt.NDArray[np.bool_],
        label_time: npt.NDArray[np.int64],
        delay: int,
    ) -> _Frauds:
        late = label_time > time + delay
        slow = np.flatnonzero(label & late)
        slow = slow[np.argsort(label_time[slow], kind="stable")]
        return cls(np.flatnonzero(label & ~late), slow, label_time[slow])


def _pieces(
    time: npt.NDArray[np.int64], frauds: _Frauds, delay: int
) -> Iterator[tuple[int, int, npt.NDArray[np.int64]]]:
    """Yield (first, last, rows whose fraud labels are to be applied before `first`)."""
    first = prompt = slow = 0
    while first < len(time):
        prompt_end = int(np.searchsorted(frauds.prompt, first))
        slow_end = int(np.searchsorted(frauds.slow_time, time[first], side="right"))
        rows = np.concatenate([frauds.prompt[prompt:prompt_end], frauds.slow[slow:slow_end]])
        prompt, slow = prompt_end, slow_end
        last = min(first + CHUNK, len(time))
        if prompt < len(frauds.prompt):
            last = min(last, int(np.searchsorted(time, time[frauds.prompt[prompt]] + delay)))
        if slow < len(frauds.slow):
            last = min(last, int(np.searchsorted(time, frauds.slow_time[slow])))
        yield first, last, rows
        first = last


def replay_pieces(
    table: pa.Table, order: npt.NDArray[np.int64], label_delay_ms: int
) -> Iterator[Piece]:
    """Run a mapped table through the engine in the order of `order`, piece by piece.

    A piece has at most 65,536 rows; its arrays are not reused for the next one.
    """
    ordered = bool((order == np.arange(len(order))).all())
    columns = table_columns(table, None if ordered else order)
    engine = OfflineEngine(label_delay_ms=label_delay_ms)
    label = np.zeros(len(order), np.bool_)
    label_time = columns.time
    if "label" in table.column_names:
        label = table.column("label").fill_null(False).to_numpy()[order]
        label_time = table.column("label_time").to_numpy()[order]
    frauds = _Frauds.of(columns.time, label, label_time, label_delay_ms)
    for first, last, rows in _pieces(columns.time, frauds, label_delay_ms):
        began = time.perf_counter()
        if len(rows) > 0:
            engine.apply_labels(
                columns.card[rows], columns.transaction[rows], columns.time[rows], label[rows]
            )
        cut = columns.cut(first, last)
        vectors, flags = engine.process(cut)
        yield Piece(first, last, cut, vectors, flags, time.perf_counter() - began)


def replay_table(
    table: pa.Table,
    *,
    label_delay_ms: int = 7 * DAY,
    progress: Progress | None = None,
) -> Replay:
    """Run a mapped table, with its labels if it has any, through the engine.

    Args:
        table: as in `schemas.mapping.mapped.MappedTable`.
        label_delay_ms: the age (ms) that a transaction must reach before its label counts.
        progress: called with the number of transactions processed since the last call.
    """
    order = event_order(table)
    vectors = np.empty((len(order), VECTOR_SIZE), np.float32)
    flags = np.zeros(len(order), np.uint8)
    for piece in replay_pieces(table, order, label_delay_ms):
        vectors[piece.first : piece.last] = piece.vectors
        flags[piece.first : piece.last] = piece.flags
        if progress is not None:
            progress(piece.last - piece.first)
    return Replay(vectors, flags, order)


def replay_output(table: pa.Table, replay: Replay) -> pa.Table:
    """Return ids, flags and one float32 column for each feature, in event order."""
    taken = table.select(["transaction_id", "card_id", "event_time"]).take(pa.array(replay.order))
    arrays: dict[str, Any] = {name: taken.column(name) for name in taken.column_names}
    arrays["duplicate"] = (replay.flags & DUPLICATE) != 0
    arrays["late"] = (replay.flags & LATE) != 0
    transposed = np.ascontiguousarray(replay.vectors.T)
    for index, name in enumerate(NAMES):
        arrays[name] = transposed[index]
    return pa.table(arrays)


def replay_to_file(
    table: pa.Table,
    output_path: Path,
    *,
    label_delay_ms: int,
    progress: Progress | None = None,
) -> Replayed:
    """Replay a mapped table into a Parquet file of features, which appears whole or not at all.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    order = event_order(table)
    engine_seconds = 0.0
    told: Counter[str] = Counter()
    with FeatureFile(output_path, table, order) as file:
        for piece in replay_pieces(table, order, label_delay_ms):
            engine_seconds += piece.seconds
            file.add(piece.vectors, piece.flags)
            told.update(told_of(piece.columns.kind, piece.flags))
            if progress is not None:
                progress(piece.last - piece.first)
    return Replayed(len(order), engine_seconds, dict(told))


def told_of(kind: npt.NDArray[np.int8], flags: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Count refunds, reversals, verifications, repeated ids, and what is too old for its card."""
    counts = np.bincount(kind, minlength=len(KINDS)).tolist()
    found = {f"{name.lower()}s": count for name, count in zip(KINDS[1:], counts[1:], strict=True)}
    found["duplicates"] = int(np.count_nonzero(flags & DUPLICATE))
    found["late"] = int(np.count_nonzero(flags & LATE))
    return found


def in_words(told: Mapping[str, int]) -> str:
    """Return counts of `told_of` for people, "" if all are 0.

    >>> in_words({"refunds": 12, "duplicates": 1, "late": 0})
    '12 refunds, 1 duplicate'
    """
    return ", ".join(
        f"{count:,} {name.removesuffix('s') if count == 1 else name}"
        for name, count in told.items()
        if count
    )
