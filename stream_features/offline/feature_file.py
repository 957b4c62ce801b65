"""A Parquet file of features that is written piece by piece, in event order."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ConfigurationError
from schemas.features import NAMES, VECTOR_SIZE
from stream_features.engine.passes.workspace import DUPLICATE, LATE

ROW_GROUP_ROWS: Final = 65_536
"""Rows in a row group."""
STRIP_ROWS: Final = 512
"""Rows that are transposed at a time, few enough to stay in the L1 cache."""
_TYPES: Final = {
    "transaction_id": pa.string(),
    "card_id": pa.string(),
    "event_time": pa.int64(),
    "duplicate": pa.bool_(),
    "late": pa.bool_(),
    **dict.fromkeys(NAMES, pa.float32()),
}
SCHEMA: Final = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _TYPES.items()])
"""No column is nullable: undefined features are NaN. This saves a third of the writing time."""


class FeatureFile:
    """Ids, flags and one float32 column for each feature; a context manager.

    The file appears under its name when the context ends without an exception.
    """

    def __init__(self, path: Path, table: pa.Table, order: npt.NDArray[np.int64]) -> None:
        """Open the file. `table` is a mapped table, `order` (int64[n]) its rows in event order.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._ids = table.select(["transaction_id", "card_id", "event_time"])
        self._order = order
        self._columns = np.empty((VECTOR_SIZE, ROW_GROUP_ROWS), np.float32)
        self._flags = np.empty(ROW_GROUP_ROWS, np.uint8)
        self._written = self._held = 0
        try:
            self._writer = pq.ParquetWriter(
                self._partial, SCHEMA, compression="lz4", use_dictionary=False,
                write_statistics=False,
            )  # fmt: skip
        except OSError as error:
            raise ConfigurationError(f"cannot write {path}: {error}") from error

    def add(self, vectors: npt.NDArray[np.float32], flags: npt.NDArray[np.uint8]) -> None:
        """Add the next rows: vectors (float32[n, features]) and flags (uint8[n])."""
        done = 0
        while done < len(flags):
            count = min(STRIP_ROWS, len(flags) - done, ROW_GROUP_ROWS - self._held)
            place = slice(self._held, self._held + count)
            self._columns[:, place] = vectors[done : done + count].T
            self._flags[place] = flags[done : done + count]
            self._held += count
            done += count
            if self._held == ROW_GROUP_ROWS:
                self._flush()

    def _flush(self) -> None:
        count = self._held
        rows = pa.array(self._order[self._written : self._written + count])
        ids = self._ids.take(rows)
        flags = self._flags[:count]
        arrays: list[Any] = [
            ids.column("transaction_id").combine_chunks().cast(pa.string()),
            ids.column("card_id").combine_chunks().cast(pa.string()),
            ids.column("event_time").combine_chunks(),
            pa.array((flags & DUPLICATE) != 0),
            pa.array((flags & LATE) != 0),
            *(pa.array(column[:count]) for column in self._columns),
        ]
        try:
            self._writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
        except OSError as error:
            raise ConfigurationError(f"cannot write {self._path}: {error}") from error
        self._written += count
        self._held = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file, or delete it after an exception."""
        try:
            if kind is None and self._held:
                self._flush()
            self._writer.close()
            if kind is None:
                self._partial.rename(self._path)
        except OSError as failure:
            raise ConfigurationError(f"cannot write {self._path}: {failure}") from failure
        finally:
            self._partial.unlink(missing_ok=True)
