"""The file of features: whole and in order however it is handed over, or not there at all."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import ConfigurationError
from schemas.features import NAMES, VECTOR_SIZE
from stream_features.engine.passes.workspace import DUPLICATE, LATE
from stream_features.offline import feature_file
from stream_features.offline.feature_file import FeatureFile

ROWS = 1000


def table() -> pa.Table:
    numbers = np.arange(ROWS)
    return pa.table(
        {
            "transaction_id": pa.array([f"t{number}" for number in numbers]).dictionary_encode(),
            "card_id": pa.array([f"c{number % 7}" for number in numbers]).dictionary_encode(),
            "event_time": numbers,
        }
    )


def test_pieces_of_any_size_make_one_file_in_event_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_file, "ROW_GROUP_ROWS", 300)
    random = np.random.default_rng(1)
    order = random.permutation(ROWS)
    vectors = random.random((ROWS, VECTOR_SIZE), np.float32)
    vectors[5, 3] = np.nan
    flags = random.choice(np.array([0, DUPLICATE, LATE, DUPLICATE | LATE], np.uint8), ROWS)
    cuts = [0, 1, 7, 299, 301, 950, ROWS]
    with FeatureFile(tmp_path / "out.parquet", table(), order) as file:
        for first, last in pairwise(cuts):
            file.add(vectors[first:last], flags[first:last])
    written = pq.read_table(tmp_path / "out.parquet")
    assert written["transaction_id"].to_pylist() == [f"t{row}" for row in order]
    assert written["event_time"].to_numpy().tolist() == order.tolist()
    assert written["duplicate"].to_numpy().tolist() == (flags & DUPLICATE != 0).tolist()
    assert written["late"].to_numpy().tolist() == (flags & LATE != 0).tolist()
    columns = np.stack([written[name].to_numpy() for name in NAMES], axis=1)
    assert columns.tobytes() == vectors.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    path.write_text("as it was")
    file = FeatureFile(path, table(), np.arange(ROWS))
    file.add(np.zeros((10, VECTOR_SIZE), np.float32), np.zeros(10, np.uint8))
    with pytest.raises(RuntimeError), file:
        raise RuntimeError
    assert path.read_text() == "as it was"
    assert [each.name for each in tmp_path.iterdir()] == ["out.parquet"]


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="missing"):
        FeatureFile(tmp_path / "missing" / "out.parquet", table(), np.arange(ROWS))
