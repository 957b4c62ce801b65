"""Training data by replay of a mapped table through the offline engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import ConfigurationError
from schemas.features import DAY
from stream_features.offline.replay import Progress, replay_table
from stream_features.offline.transaction_table import table_columns
from trainer.dataset.dataset import Dataset


def from_table(
    table: pa.Table, *, label_delay_ms: int = 7 * DAY, progress: Progress | None = None
) -> Dataset:
    """Replay a mapped table; only labelled purchases and verifications make up the data.

    Rows without a label, duplicate or late rows, refunds and reversals are left out.

    Raises:
        ConfigurationError: no rows, or no label column.
    """
    if table.num_rows == 0:
        raise ConfigurationError("the input has no transactions: nothing to train on")
    if "label" not in table.column_names:
        raise ConfigurationError("the mapping has no 'label' field: training needs to know fraud")
    replay = replay_table(table, label_delay_ms=label_delay_ms, progress=progress)
    known = table.column("label").is_valid().to_numpy()[replay.order] & (replay.flags == 0)
    known &= ~given_back(table)[replay.order]
    rows = replay.order[known]
    labels: Any = pc.fill_null(table.column("label"), pa.scalar(False))
    return Dataset(
        table_columns(table, rows),
        np.ascontiguousarray(replay.vectors[known]),
        labels.to_numpy()[rows],
        table.column("label_time").to_numpy()[rows],
    )


def left_out(table: pa.Table, data: Dataset) -> str:
    """Return a line about the rows of a table that `from_table` left out, "" if there are none."""
    missing = table.num_rows - len(data)
    back = given_back(table)
    refunds = int(back.sum())
    unlabelled = int((~back & table.column("label").is_null().to_numpy()).sum())
    if not missing:
        return ""
    counts = {
        "refunds and reversals": refunds,
        "without a label": unlabelled,
        "with a repeated id or older than 30 days on their card": missing - refunds - unlabelled,
    }
    listed = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f"{missing:,} rows are left out: {listed}"


def given_back(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which rows of a mapped table are refunds and reversals, bool[n]."""
    if "kind" not in table.column_names:
        return np.zeros(table.num_rows, np.bool_)
    found = pc.is_in(table.column("kind").cast(pa.string()), pa.array(["REFUND", "REVERSAL"]))
    return np.asarray(found.to_numpy(), np.bool_)
