"""Training data by replay of a mapped table, split by time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.columns import TransactionColumns
from schemas.errors import ConfigurationError
from schemas.features import DAY
from schemas.mapping import Mapping
from stream_features.offline.replay import Progress, replay_table
from stream_features.offline.transaction_table import read_table, table_columns

TEST_SHARE = 0.2
CALIBRATION_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Dataset:
    """n labelled transactions in event order: vectors float32[n, 70], times int64[n] in ms.

    `label_time` is when the label became known. The last `young` rows are not mature: they can be
    learned from, each as much as its `weight` (float32[n]) says, but not measured by. Without
    weights every row counts as one; mature rows always do. `settled` (bool[n]) are alerts on which
    an analyst gave the label; None: not known.
    """

    transactions: TransactionColumns
    vectors: npt.NDArray[np.float32]
    fraud: npt.NDArray[np.bool_]
    label_time: npt.NDArray[np.int64]
    young: int = 0
    weight: npt.NDArray[np.float32] | None = None
    settled: npt.NDArray[np.bool_] | None = None

    @property
    def mature(self) -> int:
        """Number of rows before the young ones."""
        return len(self) - self.young

    @property
    def time(self) -> npt.NDArray[np.int64]:
        """Event time in ms."""
        return self.transactions.time

    def __len__(self) -> int:
        """Number of transactions."""
        return len(self.fraud)

    def take(self, rows: npt.NDArray[np.int64]) -> Dataset:
        """Return the rows `rows` (int64[m], ascending)."""
        return Dataset(
            self.transactions.take(rows),
            self.vectors[rows],
            self.fraud[rows],
            self.label_time[rows],
            int((rows >= self.mature).sum()),
            None if self.weight is None else self.weight[rows],
            None if self.settled is None else self.settled[rows],
        )


@dataclass(frozen=True, slots=True)
class Split:
    """Row slices of the mature rows in time order.

    `cutoff` (ms) is when the model is imagined to be trained.
    """

    train: slice
    calibration: slice
    test: slice
    cutoff: int


def from_file(
    path: Path,
    mapping_path: Path,
    *,
    label_delay_ms: int = 7 * DAY,
    progress: Progress | None = None,
) -> Dataset:
    """Read, map and replay a file.

    Raises:
        ConfigurationError: unreadable, empty, or the mapping has no label.
    """
    mapping = Mapping.load(mapping_path)
    table = mapping.apply(read_table(path, mapping.columns()))
    return from_table(table, label_delay_ms=label_delay_ms, progress=progress)


def from_table(
    table: pa.Table, *, label_delay_ms: int = 7 * DAY, progress: Progress | None = None
) -> Dataset:
    """Replay a mapped table; rows without a label and duplicate or late rows are left out.

    Raises:
        ConfigurationError: no rows, or no label column.
    """
    if table.num_rows == 0:
        raise ConfigurationError("the input has no transactions: nothing to train on")
    if "label" not in table.column_names:
        raise ConfigurationError("the mapping has no 'label' field: training needs to know fraud")
    replay = replay_table(table, label_delay_ms=label_delay_ms, progress=progress)
    known = table.column("label").is_valid().to_numpy()[replay.order] & (replay.flags == 0)
    rows = replay.order[known]
    labels: Any = pc.fill_null(table.column("label"), pa.scalar(False))
    return Dataset(
        table_columns(table, rows),
        np.ascontiguousarray(replay.vectors[known]),
        labels.to_numpy()[rows],
        table.column("label_time").to_numpy()[rows],
    )


def split(data: Dataset, *, gap_ms: int = 7 * DAY) -> Split:
    """Split by time: train, calibration, a gap of `gap_ms` for the label delay, test.

    Raises:
        ConfigurationError: the history is too short for the gap.
    """
    time = data.time[: data.mature]
    if len(time) == 0:
        raise ConfigurationError("no labelled transactions are left: nothing to train on")
    first, last = int(time[0]), int(time[-1])
    cutoff = last - round((last - first) * TEST_SHARE)
    test = int(np.searchsorted(time, cutoff))
    known = int(np.searchsorted(time, cutoff - gap_ms))
    train = known - round(known * CALIBRATION_SHARE)
    if train == 0 or known == train or test == len(time):
        days = (last - first) / DAY
        raise ConfigurationError(
            f"{days:.1f} days of history are too short for a label delay of {gap_ms / DAY:g} days: "
            "give a longer history or a shorter --label-delay-days"
        )
    return Split(slice(0, train), slice(train, known), slice(test, len(time)), cutoff)


def known_fraud(data: Dataset, rows: slice, cutoff: int) -> npt.NDArray[np.bool_]:
    """Return what was known at `cutoff`: a fraud labelled later still looks genuine."""
    return data.fraud[rows] & (data.label_time[rows] <= cutoff)
