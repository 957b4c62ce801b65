"""The order in which transactions of a table are processed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def event_order(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the rows (int64[n]) by event time, ties by length and text of transaction_id."""
    time = table.column("event_time").to_numpy()
    order = np.arange(table.num_rows)
    steps = np.diff(time)
    if (steps < 0).any():
        order = np.argsort(time, kind="stable")
        steps = np.diff(time[order])
    tied = _disordered(table, order, np.flatnonzero(steps == 0))
    if len(tied) == 0:
        return order
    chosen = np.zeros(len(order), np.bool_)
    chosen[tied] = chosen[tied + 1] = True
    places = np.flatnonzero(chosen)
    rows = order[places]
    ids = _ids(table, rows)
    key = pa.table({"time": time[rows], "size": pc.binary_length(ids), "id": ids})
    ranks = pc.sort_indices(
        key, [("time", "ascending"), ("size", "ascending"), ("id", "ascending")]
    )
    order[places] = rows[ranks.to_numpy()]
    return order


def _ids(table: pa.Table, rows: npt.NDArray[np.int64]) -> Any:
    return table.column("transaction_id").take(pa.array(rows)).cast(pa.string())


def _disordered(
    table: pa.Table, order: npt.NDArray[np.int64], tied: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the ties (positions whose successor has the same time) that still need sorting.

    Most files are in order already, and sorting text is slow. One tie out of order includes its
    whole run of equal times.
    """
    if len(tied) == 0:
        return tied
    one, other = _ids(table, order[tied]), _ids(table, order[tied + 1])
    size, next_size = pc.binary_length(one), pc.binary_length(other)
    by_text = pc.and_(pc.equal(size, next_size), pc.less_equal(one, other))
    right = pc.or_(pc.less(size, next_size), by_text).to_numpy()
    runs = np.cumsum(np.diff(tied, prepend=tied[0]) > 1)
    wrong = np.zeros(runs[-1] + 1, np.bool_)
    wrong[runs[~right]] = True
    return tied[wrong[runs]]
