"""Replay a table through the offline engine: the same vectors as the live path.

Events are taken in the order (event_time, length of transaction_id, transaction_id), the order in
which a worker merges its partitions. A label is applied before the first transaction that is not
older than its label time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from schemas.columns import CHANNELS, TransactionColumns, empty_columns, pack_country, pack_position
from schemas.errors import ConfigurationError
from schemas.features import DAY, NAMES, VECTOR_SIZE
from schemas.keys import hash_spans, normalise_ip
from schemas.mapping import Mapping, channel_codes
from stream_features.engine.offline import OfflineEngine
from stream_features.engine.workspace import DUPLICATE, LATE

CHUNK: Final = 65_536
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Replay:
    """Vectors (float32[n, 70]) and flags (uint8[n]) in event order; `order` (int64[n]) are rows."""

    vectors: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]
    order: npt.NDArray[np.int64]


def read_table(path: Path, columns: list[str]) -> pa.Table:
    """Read the named columns of a Parquet or CSV file.

    Raises:
        ConfigurationError: no such file, or neither format.
    """
    try:
        if path.suffix == ".parquet":
            present = pa.parquet.read_schema(path).names
            return pa.parquet.read_table(path, columns=[c for c in columns if c in present])
        if path.suffix in {".csv", ".gz"}:
            return pa.csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    raise ConfigurationError(f"{path}: expected a .parquet, .csv or .csv.gz file")


def _hashes(column: Any, *, address: bool = False) -> npt.NDArray[np.uint64]:
    """Hash a text column by its distinct values; missing is 0."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = encoded.dictionary.cast(pa.string())
    if address:
        values = pa.array([normalise_ip(text) for text in values.to_pylist()], pa.string())
    binary = values.cast(pa.large_binary())
    if len(binary) == 0:
        return np.zeros(len(encoded), np.uint64)
    _, offsets, data = binary.buffers()
    text = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    spans = np.frombuffer(offsets, np.int64)[binary.offset : binary.offset + len(binary) + 1]
    hashes: npt.NDArray[np.uint64] = _gather(encoded, hash_spans(text, spans))
    return hashes


def _gather(encoded: Any, values: npt.NDArray[Any], absent: int = 0) -> npt.NDArray[Any]:
    """Return the value of each row of a dictionary-encoded column, `absent` where it is missing."""
    codes = encoded.indices
    missing = codes.is_null().to_numpy(zero_copy_only=False)
    out: npt.NDArray[Any] = values[codes.fill_null(0).to_numpy(zero_copy_only=False)]
    out[missing] = absent
    return out


def _coded(column: Any, code: Callable[[str], int], kind: Any, absent: int = 0) -> npt.NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    numbers = [code(text) for text in encoded.dictionary.cast(pa.string()).to_pylist()]
    return _gather(encoded, np.array(numbers or [absent], kind), absent)


def _numbers(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(
        table.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy(), np.float64
    )


def table_columns(table: pa.Table) -> TransactionColumns:
    """Return the engine's columns of a mapped table (see `schemas.mapping`)."""
    columns = empty_columns(table.num_rows)
    names = set(table.column_names)
    changes: dict[str, Any] = {
        "time": table.column("event_time").to_numpy(),
        "amount": table.column("amount").to_numpy(),
    }
    ids = {"transaction": "transaction_id", "card": "card_id", "merchant": "merchant_id", "device": "device_id"}  # fmt: skip
    for field, name in ids.items():
        if name in names:
            changes[field] = _hashes(table.column(name))
    if "ip" in names:
        changes["ip"] = _hashes(table.column("ip"), address=True)
    for name in ("card_country", "merchant_country", "ip_country"):
        if name in names:
            changes[name] = _coded(table.column(name), pack_country, np.uint16)
    if "channel" in names:
        changes["channel"] = _coded(
            table.column("channel"),
            lambda text: channel_codes([text])[0],
            np.int8,
            CHANNELS.index("OTHER"),
        )
    if "mcc" in names:
        changes["mcc"] = table.column("mcc").cast(pa.int32()).fill_null(-1).to_numpy()
    if {"latitude", "longitude"} <= names:
        changes["position"] = pack_position(
            _numbers(table, "latitude"), _numbers(table, "longitude")
        )
    return columns._replace(**changes)


def event_order(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the rows (int64[n]) by event time, ties by length and text of transaction_id."""
    time = table.column("event_time").to_numpy()
    steps = np.diff(time)
    if (steps > 0).all():
        return np.arange(table.num_rows)
    order = np.argsort(time, kind="stable")
    tied = np.flatnonzero(np.diff(time[order]) == 0)
    if len(tied) == 0:
        return order
    places = np.unique(np.concatenate([tied, tied + 1]))
    rows = order[places]
    ids = table.column("transaction_id").take(pa.array(rows)).cast(pa.string())
    key = pa.table(
        {
            "time": time[rows],
            "size": pc.binary_length(ids),
            "id": ids,
        }
    )
    ranks = pc.sort_indices(
        key, [("time", "ascending"), ("size", "ascending"), ("id", "ascending")]
    )
    order[places] = rows[ranks.to_numpy()]
    return order


@dataclass(frozen=True, slots=True)
class _Frauds:
    """Fraud labels of a replay, as rows in event order and the times at which they are known.

    A label counts only once its transaction is D old, so a `prompt` one (known by then) may be
    applied anywhere between its transaction and that moment; a `slow` one when it becomes known.
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
    """Yield (first, last, rows whose fraud labels come before `first`)."""
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


def replay_table(
    table: pa.Table,
    *,
    label_delay_ms: int = 7 * DAY,
    progress: Progress | None = None,
) -> Replay:
    """Run a mapped table, with its labels if it has any, through the engine.

    Args:
        table: as returned by `schemas.mapping.Mapping.apply`.
        label_delay_ms: D of the catalogue.
        progress: called with the number of transactions done since the last call.
    """
    order = event_order(table)
    columns = table_columns(table).take(order)
    engine = OfflineEngine(label_delay_ms=label_delay_ms)
    vectors = np.empty((len(order), VECTOR_SIZE), np.float32)
    flags = np.zeros(len(order), np.uint8)
    label = np.zeros(len(order), np.bool_)
    label_time = columns.time
    if "label" in table.column_names:
        label = table.column("label").fill_null(False).to_numpy()[order]
        label_time = table.column("label_time").to_numpy()[order]
    frauds = _Frauds.of(columns.time, label, label_time, label_delay_ms)
    for first, last, rows in _pieces(columns.time, frauds, label_delay_ms):
        if len(rows) > 0:
            engine.apply_labels(
                columns.card[rows], columns.transaction[rows], columns.time[rows], label[rows]
            )
        piece = columns.cut(first, last)
        vectors[first:last], flags[first:last] = engine.process(piece)
        if progress is not None:
            progress(last - first)
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


def replay_file(
    input_path: Path,
    mapping_path: Path,
    output_path: Path,
    *,
    label_delay_ms: int,
    progress: Progress | None = None,
    started: Callable[[int], None] | None = None,
) -> int:
    """Replay a file into a Parquet file of features; return the number of transactions."""
    mapping = Mapping.load(mapping_path)
    table = mapping.apply(read_table(input_path, mapping.columns()))
    if started is not None:
        started(table.num_rows)
    replay = replay_table(table, label_delay_ms=label_delay_ms, progress=progress)
    output = replay_output(table, replay)
    pa.parquet.write_table(output, output_path, compression="lz4", use_dictionary=False)
    return len(replay.order)
