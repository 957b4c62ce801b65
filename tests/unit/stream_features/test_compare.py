"""The comparison of served and replayed features finds every difference, and only those."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from schemas.errors import ConfigurationError
from schemas.features import NAMES
from stream_features.offline.compare import compare_files, compare_tables


def features(rows: int, **changes: np.ndarray) -> pa.Table:  # type: ignore[type-arg]
    rng = np.random.default_rng(1)
    columns = {
        "transaction_id": pa.array([str(row) for row in range(rows)]),
        "card_id": pa.array([f"c{row % 7}" for row in range(rows)]),
        "event_time": np.arange(rows),
        "duplicate": np.zeros(rows, np.bool_),
        "late": np.zeros(rows, np.bool_),
    } | {name: rng.random(rows, np.float32) for name in NAMES}
    columns[NAMES[-1]][::3] = np.nan
    return pa.table(columns | changes)


def test_the_same_rows_in_any_order_are_equal() -> None:
    table = features(500)
    shuffled = table.take(pa.array(np.random.default_rng(2).permutation(500)))
    result = compare_tables(table, shuffled)
    assert result.equal
    assert (result.rows, result.equal_rows, result.differing) == (500, 500, {})


def test_one_flipped_bit_is_found_and_attributed() -> None:
    table = features(500)
    changed = table.column("merchant_tx_count_1h").to_numpy().copy()
    changed.view(np.uint32)[123] ^= 1
    result = compare_tables(table, features(500, merchant_tx_count_1h=changed))
    assert not result.equal
    assert result.differing == {"merchant_tx_count_1h": 1}
    assert result.rows_by_entity == {"merchant": 1}
    assert result.equal_rows == 499
    assert result.examples[0]["transaction_id"] == "123"


def test_rows_without_a_counterpart_are_counted() -> None:
    table = features(100)
    result = compare_tables(table.slice(0, 90), table.slice(20))
    assert (result.only_left, result.only_right, result.rows) == (20, 10, 70)
    assert not result.equal


def test_repeated_identities_are_compared_one_by_one() -> None:
    table = features(50)
    twice = pa.concat_tables([table, table])
    assert compare_tables(twice, twice).equal
    assert compare_tables(twice, table).only_left == 50


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    pa.parquet.write_table(pa.table({"card_id": ["a"]}), other)
    with pytest.raises(ConfigurationError, match="transaction_id"):
        compare_files(other, other)
