"""Labelled transactions with their vectors: what every model is trained and measured on. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.columns import TransactionColumns


@dataclass(frozen=True, slots=True)
class Dataset:
    """n labelled transactions in event order: vectors float32[n, 70], times int64[n] in ms.

    `label_time` is when the label became known. The last `immature` rows, whose labels have not all
    arrived, are for learning by their `weight` (float32[n]), but not for measuring. Mature rows
    count as one, and so do all rows without weights. `settled` (bool[n]) are alerts whose label an
    analyst gave; None if that is not known.
    """

    transactions: TransactionColumns
    vectors: npt.NDArray[np.float32]
    fraud: npt.NDArray[np.bool_]
    label_time: npt.NDArray[np.int64]
    immature: int = 0
    weight: npt.NDArray[np.float32] | None = None
    settled: npt.NDArray[np.bool_] | None = None

    @property
    def mature(self) -> int:
        """Number of rows before the immature ones."""
        return len(self) - self.immature

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
