"""Training data by replay of a mapped table through the offline engine."""

from __future__ import annotations

from typing import Any

import numpy as np
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


def left_out(table: pa.Table, data: Dataset) -> str:
    """Return a line about the rows of a table that `from_table` left out, "" if there are none."""
    missing = table.num_rows - len(data)
    unlabelled = int(table.column("label").null_count)
    if not missing:
        return ""
    return (
        f"{missing:,} rows are left out: {unlabelled:,} without a label, "
        f"{missing - unlabelled:,} with a repeated id or older than 30 days on their card"
    )
