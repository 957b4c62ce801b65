"""Compares two tables of features bit by bit, such as the live vectors with those of a replay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from schemas.errors import ConfigurationError
from schemas.features import CATALOGUE, NAMES

IDENTITY: Final = ("card_id", "transaction_id", "duplicate", "event_time")
FLAGS: Final = ("duplicate", "late")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison, in numbers of rows.

    `rows` were compared and `equal_rows` of them are equal in every column; `only_left` and
    `only_right` have no counterpart. `differing` counts by column, and `rows_by_entity` the rows
    that differ in any feature of the entity.
    """

    rows: int
    only_left: int
    only_right: int
    equal_rows: int
    differing: dict[str, int]
    rows_by_entity: dict[str, int]
    examples: list[dict[str, Any]]

    @property
    def equal(self) -> bool:
        """True if both tables hold the same rows with the same bits."""
        return self.only_left == self.only_right == 0 and self.equal_rows == self.rows


def compare_files(left: Path, right: Path, *, examples: int = 5) -> Comparison:
    """Compare two Parquet files.

    Raises:
        ConfigurationError: a file cannot be read, or a column is missing.
    """
    return compare_tables(_read(left), _read(right), examples=examples)


def compare_tables(left: pa.Table, right: pa.Table, *, examples: int = 5) -> Comparison:
    """Compare the rows with the same identity: card, transaction, duplicate flag and time.

    Rows with equal identities are matched in their order. Floats are compared by their bits; all
    NaNs of the engine have the same bits.
    """
    ours, theirs, only_left, only_right = _matched(left, right)
    rows = len(ours)
    entity = {feature.name: feature.entity for feature in CATALOGUE}
    differing: dict[str, int] = {}
    anywhere = np.zeros(rows, np.bool_)
    by_entity: dict[str, npt.NDArray[np.bool_]] = {}
    for name in (*FLAGS, *NAMES):
        wrong = _bits(left, name)[ours] != _bits(right, name)[theirs]
        if not wrong.any():
            continue
        differing[name] = int(wrong.sum())
        anywhere |= wrong
        kind = entity.get(name, "flags")
        by_entity[kind] = by_entity.get(kind, np.zeros(rows, np.bool_)) | wrong
    shown = np.flatnonzero(anywhere)[:examples].tolist()
    return Comparison(
        rows=rows,
        only_left=only_left,
        only_right=only_right,
        equal_rows=rows - int(anywhere.sum()),
        differing=differing,
        rows_by_entity={kind: int(wrong.sum()) for kind, wrong in by_entity.items()},
        examples=[
            _example(left, right, int(ours[row]), int(theirs[row]), differing) for row in shown
        ],
    )


def _read(path: Path) -> pa.Table:
    try:
        table = pa.parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    missing = [name for name in (*IDENTITY, *FLAGS, *NAMES) if name not in table.column_names]
    if missing:
        raise ConfigurationError(
            f"{path} lacks the columns {', '.join(missing[:5])}: give a file that `replay` "
            "or `dump` has written with this feature catalogue"
        )
    return table


def _matched(
    left: pa.Table, right: pa.Table
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int, int]:
    """Return the matching rows of both tables, and how many of each have no counterpart."""
    keyed = [_numbered(table, side) for side, table in (("left", left), ("right", right))]
    # Arrow's threads would hold our arrays until a moment after the join. If the process ends just
    # then, letting go of them aborts it (apache/arrow, issue 34314).
    joined = keyed[0].join(
        keyed[1], [*IDENTITY, "occurrence"], join_type="inner", use_threads=False
    )
    joined = joined.sort_by("left")
    ours = joined.column("left").to_numpy()
    theirs = joined.column("right").to_numpy()
    return ours, theirs, left.num_rows - len(ours), right.num_rows - len(theirs)


def _numbered(table: pa.Table, side: str) -> pa.Table:
    """Return the identity columns, the occurrence of each identity, and the row numbers."""
    columns = {name: table.column(name) for name in IDENTITY}
    for name in ("card_id", "transaction_id"):
        columns[name] = columns[name].cast(pa.string())
    columns[side] = pa.array(np.arange(table.num_rows))
    keyed = pa.table(columns).sort_by([(name, "ascending") for name in (*IDENTITY, side)])
    same = np.ones(table.num_rows, np.bool_)
    for name in IDENTITY:
        codes = keyed.column(name).combine_chunks().dictionary_encode().indices.to_numpy()
        same[1:] &= codes[1:] == codes[:-1]
    starts = np.arange(table.num_rows)
    starts[1:][same[1:]] = 0
    occurrence = np.arange(table.num_rows) - np.maximum.accumulate(starts)
    return keyed.append_column("occurrence", pa.array(occurrence))


def _bits(table: pa.Table, name: str) -> npt.NDArray[Any]:
    column = np.asarray(table.column(name).to_numpy())
    return column.view(np.uint32) if column.dtype == np.float32 else column


def _example(
    left: pa.Table, right: pa.Table, ours: int, theirs: int, names: dict[str, int]
) -> dict[str, Any]:
    row: dict[str, Any] = {name: left.column(name)[ours].as_py() for name in IDENTITY}
    for name in names:
        pair = left.column(name)[ours].as_py(), right.column(name)[theirs].as_py()
        if pair[0] != pair[1]:
            row[name] = pair
    return row
