"""A piece of a replayed table in the form in which `judge` takes a batch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.columns import TransactionColumns


@dataclass(frozen=True, slots=True)
class ReplayedBatch:
    """n rows of a mapped table with their vectors (float32[n, 70]).

    `rows` (int64[n]) are their places in `table`, `columns` the same transactions as numbers.
    """

    table: pa.Table
    rows: npt.NDArray[np.int64]
    columns: TransactionColumns
    matrix: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """All true: the vectors were computed by this catalogue."""
        return np.ones(len(self.rows), np.bool_)

    @property
    def channel(self) -> npt.NDArray[np.int8]:
        """Position in `schemas.columns.CHANNELS`."""
        return self.columns.channel

    @property
    def kind(self) -> npt.NDArray[np.int8]:
        """Position in `schemas.columns.KINDS`."""
        return self.columns.kind

    @property
    def card_hash(self) -> npt.NDArray[np.uint64]:
        """Hash of the card id."""
        return self.columns.card

    def strings(self, field: str) -> npt.NDArray[np.str_]:
        """Return a text field of every row, "" if missing or not in the table."""
        if field not in self.table.column_names:
            return np.zeros(len(self.rows), "U1")
        column = self._column(field)
        codes = (
            column.indices.take(pa.array(self.rows)).fill_null(-1).to_numpy(zero_copy_only=False)
        )
        used, place = np.unique(codes, return_inverse=True)
        texts = column.dictionary.take(pa.array(used, mask=used < 0)).to_pylist()
        return np.array([text or "" for text in texts], np.str_)[place]

    def rows_with(self, field: str, values: Collection[bytes]) -> list[int]:
        """Return the rows, ascending, whose text field (UTF-8) is one of `values`."""
        if field not in self.table.column_names or not values:
            return []
        column = self._column(field)
        wanted = pa.array([value.decode() for value in values], pa.string())
        listed = pc.is_in(column.dictionary.cast(pa.string()), value_set=wanted)
        inside = listed.take(column.indices.take(pa.array(self.rows))).fill_null(False)
        found: list[int] = np.flatnonzero(inside.to_numpy(zero_copy_only=False)).tolist()
        return found

    def _column(self, field: str) -> pa.DictionaryArray:
        column = self.table.column(field)
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
