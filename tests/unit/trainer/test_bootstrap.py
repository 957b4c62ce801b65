"""Training from a small synthetic history: split, labels, bundle and clear errors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.ensemble import IsolationForest
from typer.testing import CliRunner

from runtime.kafka.model_registry import registration
from schemas.codec.avro import decode, encode
from schemas.columns import empty_columns
from schemas.errors import ConfigurationError
from schemas.features import ANOMALY_INPUTS, DAY, FINGERPRINT, VECTOR_SIZE
from scorer.model.anomaly import anomaly_scores
from scorer.model.bundle import load_model
from trainer.__main__ import app
from trainer.dataset.dataset import Dataset
from trainer.dataset.replayed import from_table, left_out
from trainer.dataset.time_split import known_fraud, split
from trainer.training import batch_training, bundle_writer, isolation_forest, parameters

START = 1_700_000_000_000
MAPPING = """fields:
  transaction_id: id
  event_time: {column: time, unit: ms}
  card_id: card
  merchant_id: merchant
  amount: {column: amount, unit: minor}
  currency: {constant: EUR}
  label: {column: fraud, fraud: 1, delay: 1d}
"""


def history(rows: int = 4000, *, days: int = 40, seed: int = 1) -> pa.Table:
    random = np.random.default_rng(seed)
    fraud = random.random(rows) < 0.05
    amount = np.where(
        fraud, random.integers(50_000, 90_000, rows), random.integers(100, 60_000, rows)
    )
    return pa.table(
        {
            "id": [str(n) for n in range(rows)],
            "time": START + np.sort(random.integers(0, days * DAY, rows)),
            "card": [f"c{n}" for n in random.integers(0, 100, rows)],
            "merchant": [f"m{n}" for n in random.integers(0, 20, rows)],
            "amount": amount,
            "fraud": fraud.astype(np.int64),
        }
    )


def dataset(fraud: npt.NDArray[np.bool_], *, days: int = 100) -> Dataset:
    rows = len(fraud)
    time = START + np.linspace(0, days * DAY, rows).astype(np.int64)
    vectors = np.random.default_rng(2).normal(size=(rows, VECTOR_SIZE)).astype(np.float32)
    vectors[:, 0] += 4 * fraud
    return Dataset(empty_columns(rows)._replace(time=time), vectors, fraud, time + 5 * DAY)


def test_everything_before_the_test_part_is_older_than_the_gap() -> None:
    data = dataset(np.arange(1000) % 10 == 0)
    parts = split(data, gap_ms=7 * DAY)
    assert data.time[parts.calibration][-1] < parts.cutoff - 7 * DAY
    assert data.time[parts.test][0] >= parts.cutoff
    assert parts.train.stop == parts.calibration.start


def test_a_fraud_labelled_after_the_cutoff_is_not_known() -> None:
    data = dataset(np.ones(10, np.bool_))
    cutoff = int(data.label_time[4])
    assert known_fraud(data, slice(0, 10), cutoff).tolist() == [True] * 5 + [False] * 5


@pytest.mark.parametrize(("days", "rows"), [(100, 700), (20, 1000)], ids=["long", "short"])
def test_drift_is_measured_against_rows_whose_windows_were_full(days: int, rows: int) -> None:
    """Of a hundred days the last seventy; the longest window takes thirty."""
    data = dataset(np.arange(10_000) % 10 == 0, days=days)
    trained, _ = batch_training.train(data, batch_training.TrainOptions(gap_ms=2 * DAY, rounds=2))
    for name in ("card_tx_count_30d", "merchant_tx_count_30d"):
        assert sum(trained.histograms[name]["counts"]) == pytest.approx(10 * rows, rel=0.01)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dataset(np.zeros(500, np.bool_)), "both classes"),
        (dataset(np.ones(500, np.bool_)), "both classes"),
        (dataset(np.arange(500) % 5 == 0, days=3), "too short"),
        (dataset(np.zeros(0, np.bool_)), "nothing to train on"),
    ],
    ids=["genuine only", "fraud only", "short", "empty"],
)
def test_unusable_history_is_named(data: Dataset, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        batch_training.train(data)


def test_an_empty_table_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no transactions"):
        from_table(pa.table({"event_time": pa.array([], pa.int64())}))


def test_refunds_and_reversals_are_not_trained_on_and_counted() -> None:
    kinds = ["PURCHASE", "REFUND", None, "REVERSAL", "VERIFICATION", "REFUND"]
    table = pa.table(
        {
            "transaction_id": [f"t{n}" for n in range(6)], "card_id": ["c"] * 6,
            "merchant_id": ["m"] * 6, "amount": [100] * 6,
            "event_time": [START + n for n in range(6)], "kind": kinds,
            "label": pa.array([False, False, True, True, None, None]),
            "label_time": [START + n for n in range(6)],
        }
    )  # fmt: skip
    data = from_table(table)
    assert data.time.tolist() == [START, START + 2]
    assert left_out(table, data) == (
        "4 rows are left out: 3 refunds and reversals, 1 without a label"
    )


def test_exported_trees_score_as_scikit_learn_does() -> None:
    vectors = np.random.default_rng(3).normal(size=(600, VECTOR_SIZE)).astype(np.float32)
    vectors[::7, 12] = np.nan
    model = isolation_forest.train(vectors, seed=5)
    inputs = vectors[:, ANOMALY_INPUTS]
    inputs = np.where(np.isnan(inputs), np.nanmedian(inputs, axis=0), inputs)
    forest = IsolationForest(n_estimators=100, random_state=5).fit(inputs)
    scores = anomaly_scores(model, vectors)
    np.testing.assert_allclose(scores, -forest.score_samples(inputs), atol=1e-6)
    assert ((scores > 0) & (scores <= 1)).all()


def test_thinning_keeps_every_fraud_and_the_weight_of_the_rest() -> None:
    fraud = np.arange(20_000) % 1_000 == 0
    rows, weight = batch_training.thinned(fraud, seed=1)
    assert set(np.flatnonzero(fraud)) <= set(rows.tolist())
    assert len(rows) == len(set(rows.tolist())) == 20 * (1 + parameters.GENUINE_PER_FRAUD)
    assert weight[fraud[rows]].tolist() == [1.0] * 20
    assert weight[~fraud[rows]].sum() == pytest.approx(19_980)
    few = np.arange(100) % 2 == 0
    assert len(batch_training.thinned(few, seed=1)[0]) == 100


def test_bundle_is_complete_verifiable_and_without_pickle(tmp_path: Path) -> None:
    data = dataset(np.arange(1000) % 10 == 0)
    trained, _ = batch_training.train(data, batch_training.TrainOptions(rounds=5))
    sha256 = bundle_writer.write(tmp_path / "m1", "m1", trained)
    raw = (tmp_path / "m1" / "manifest.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == sha256
    manifest = json.loads(raw)
    assert manifest["fingerprint"] == FINGERPRINT.hex()
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((tmp_path / "m1" / name).read_bytes()).hexdigest() == digest
    model = load_model(tmp_path / "m1", sha256)
    inputs = model.inputs(data.vectors)
    np.testing.assert_array_equal(
        inputs[:, VECTOR_SIZE], anomaly_scores(trained.anomaly, data.vectors)
    )
    expected = trained.booster.inplace_predict(inputs)
    np.testing.assert_allclose(model.probability(inputs), expected, rtol=0, atol=1e-6)
    assert (np.diff(trained.knots_y) >= 0).all()
    with pytest.raises(ConfigurationError, match="exists"):
        bundle_writer.write(tmp_path / "m1", "m1", trained)
    assert [path.name for path in tmp_path.iterdir()] == ["m1"]
    event = registration(tmp_path / "m1", actor="jane", occurred_at=1)
    assert decode(encode("ModelEvent", event)) == ("ModelEvent", event)
    assert (event["model_id"], event["sha256"], event["actor"]) == ("m1", sha256, "jane")
    assert event["metrics"] == trained.metrics
    (tmp_path / "m1" / "metrics.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"metrics\.json"):
        registration(tmp_path / "m1", actor="jane")


def test_bootstrap_command_learns_and_reports(tmp_path: Path) -> None:
    pa.parquet.write_table(history(), tmp_path / "day.parquet")
    (tmp_path / "map.yaml").write_text(MAPPING)
    inputs = ["--input", str(tmp_path / "day.parquet"), "--mapping", str(tmp_path / "map.yaml")]
    outputs = ["--output", str(tmp_path / "models"), "--json", str(tmp_path / "report.json")]
    settings = ["--model-id", "first", "--label-delay-days", "2", "--rounds", "30"]
    result = CliRunner().invoke(app, ["bootstrap", *inputs, *outputs, *settings])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["metrics"]["auc"] > 0.9
    assert 0 < report["metrics"]["block_rate"] + report["metrics"]["review_rate"] < 0.1
    assert report["metrics"]["recall"] > 0.3
    assert (tmp_path / "models" / "first" / "manifest.json").is_file()
    again = CliRunner().invoke(app, ["bootstrap", *inputs, *outputs, *settings])
    assert isinstance(again.exception, ConfigurationError)


def test_immature_rows_are_learned_from_but_not_measured_by() -> None:
    """A fraud that only immature rows have is found afterwards; the holdout stays mature."""
    old = dataset(np.arange(4000) % 10 == 0)
    rows = 600
    fraud = np.arange(rows) % 3 == 0
    vectors = np.random.default_rng(5).normal(size=(rows, VECTOR_SIZE)).astype(np.float32)
    vectors[fraud, 1] += 6
    columns = empty_columns(rows)._replace(
        time=old.time[-1] + 1 + np.arange(rows), card=np.arange(rows, dtype=np.uint64) // 5
    )
    pairs: Any = zip(old.transactions, columns, strict=True)
    joined = type(old.transactions)._make(np.concatenate(pair) for pair in pairs)
    data = Dataset(
        joined,
        np.concatenate([old.vectors, vectors]),
        np.concatenate([old.fraud, fraud]),
        np.concatenate([old.label_time, columns.time + 1]),
        rows,
        np.ones(4000 + rows, np.float32),
    )
    new = np.random.default_rng(6).normal(size=(200, VECTOR_SIZE + 1)).astype(np.float32)
    new[:, 1] += 6
    said = []
    for each in (old, data):
        trained, holdout = batch_training.train(each, batch_training.TrainOptions(rounds=20))
        assert holdout.rows.stop == 4000
        said.append(float(np.median(trained.booster.inplace_predict(new, validate_features=False))))
    assert said[1] > 3 * said[0]
    assert data.take(np.array([0, 3999, 4000])).immature == 1
