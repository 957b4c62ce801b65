"""Every check of the data check fails by itself, and a sound dataset passes them all."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from schemas.columns import empty_columns
from schemas.errors import ConfigurationError
from schemas.features import CATALOGUE, DAY, NAMES
from tests.support.mapped import mapped
from tests.support.scorer.stand_ins import small_bundle
from tests.support.trainer.archive_messages import START, feature, filled, label
from tests.unit.trainer.test_bootstrap import MAPPING, history
from trainer.__main__ import app
from trainer.dataset.check import check
from trainer.dataset.data_bounds import DataBounds
from trainer.dataset.dataset import Dataset
from trainer.dataset.reference import missing_rates
from trainer.dataset.replayed import from_table
from trainer.evaluation.resampling import auc

ROWS = 4_000
FRAUD_EVERY = 40


def sound(rows: int = ROWS, *, days: int = 10) -> Dataset:
    """Return a dataset that passes."""
    time = START // DAY * DAY + np.arange(rows) * (days * DAY // rows)
    draw = np.random.default_rng(1)
    columns = empty_columns(rows)._replace(
        time=time,
        transaction=np.arange(1, rows + 1, dtype=np.uint64),
        card=np.arange(1, rows + 1, dtype=np.uint64) % np.uint64(50) + np.uint64(1),
    )
    vectors = draw.random((rows, len(CATALOGUE))).astype(np.float32)
    fraud = np.arange(rows) % FRAUD_EVERY == 0
    return Dataset(columns, vectors, fraud, time + DAY)


def failed(data: Dataset, bounds: DataBounds | None = None) -> list[tuple[str, str]]:
    return [(failure.name, failure.subject) for failure in check(data, bounds).failures]


def test_a_sound_dataset_passes_and_says_so() -> None:
    report = check(sound())
    assert report.failures == []
    assert json.loads(json.dumps(report.to_json()))["passed"] is True
    assert {found.name for found in report.checks} >= {
        "missing rate", "out of range", "volume by median", "AUC alone", "duplicate ids",
    }  # fmt: skip


def test_too_few_rows_and_one_class_only() -> None:
    assert failed(sound(400), DataBounds(frauds=10)) == [("rows", "")]
    data = sound()
    genuine = replace(data, fraud=np.zeros(ROWS, np.bool_))
    assert failed(genuine) == [("frauds", ""), ("fraud rate", "")]
    frauds = replace(data, fraud=np.ones(ROWS, np.bool_))
    assert failed(frauds) == [("genuine", ""), ("fraud rate", "")]
    assert failed(data.take(np.arange(0))) == [("rows", "")]


def test_vectors_of_another_width() -> None:
    data = sound()
    assert failed(replace(data, vectors=data.vectors[:, :60])) == [("features", "")]


def test_missing_values_by_feature() -> None:
    data = sound()
    data.vectors[: ROWS // 2, 3] = np.nan
    assert failed(data) == []
    name = CATALOGUE[3].name
    assert failed(data, DataBounds(missing=0.4)) == [("missing rate", name)]
    assert failed(data, DataBounds(missing=0.4, missing_of={name: 0.6})) == []


def test_a_feature_that_died_is_refused_where_the_champion_had_it() -> None:
    data, name, rare = sound(), CATALOGUE[3].name, CATALOGUE[4].name
    data.vectors[:, 3] = np.nan
    data.vectors[: int(0.6 * ROWS), 4] = np.nan
    before = {name: 0.05, rare: 0.5}
    assert check(data).failures == []
    (failure,) = check(data, None, before).failures
    assert str(failure) == (
        f"missing rate of {name} is 1, must be at most 0.25 (0.2 above the champion's 0.05)"
    )
    assert check(data, None, {name: 0.9}).failures == []  # it was hardly there before
    assert check(data, DataBounds(missing_growth=0.05), before).failures[1].subject == rare
    assert check(data, DataBounds(missing_of={name: 1.0}), before).failures == []
    strict = check(data, DataBounds(missing=0.1), {name: 0.05})
    assert [failure.why for failure in strict.failures] == ["", ""]


def test_the_champions_missing_rates_are_those_of_its_histograms(tmp_path: Path) -> None:
    first, second = CATALOGUE[0].name, CATALOGUE[1].name
    histograms = {
        first: {"edges": [1.0], "counts": [5, 10], "missing": 5},
        second: {"edges": [], "counts": [0], "missing": 0},
        "score": {"edges": [], "counts": [1], "missing": 9},
    }
    digest = small_bundle(tmp_path / "m", "m", histograms=histograms)
    assert missing_rates(tmp_path / "m", digest) == {first: 0.25}
    digest = small_bundle(tmp_path / "bad", "bad", histograms={first: {"counts": []}})
    with pytest.raises(ConfigurationError, match=r"histograms\.json is not readable"):
        missing_rates(tmp_path / "bad", digest)


def test_values_out_of_range_and_infinite() -> None:
    data = sound()
    data.vectors[5, 1] = 2.0  # a 0/1 feature
    data.vectors[6, 40] = np.inf
    names = CATALOGUE[1].name, CATALOGUE[40].name
    assert failed(data) == [("out of range", name) for name in names]
    assert failed(data, DataBounds(out_of_range=0.001)) == []
    low = DataBounds(out_of_range=0.001, ranges={CATALOGUE[2].name: (0.5, 1.0)})
    assert failed(data, low) == [("out of range", CATALOGUE[2].name)]


def test_what_the_engine_computes_is_in_range(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(MAPPING)
    data = from_table(mapped(mapping, history(4_000)), label_delay_ms=DAY)
    assert failed(data, DataBounds(leakage_auc=1.0)) == []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("card_distinct_mccs_24h", -1.0), ("card_distinct_ips_24h", -1.0),
        ("device_fraud_count_30d", -1.0), ("card_tx_count_5m", -1.0), ("hour_of_day", 24.0),
        ("day_of_week", 7.0), ("is_night", 2.0), ("device_fingerprint_new", -1.0),
        ("merchant_risk_score", 1.5), ("card_age_days", np.inf),
    ],
)  # fmt: skip
def test_what_a_feature_cannot_be_is_out_of_range(name: str, wrong: float) -> None:
    data = sound()
    data.vectors[7, NAMES.index(name)] = wrong
    assert failed(data, DataBounds(out_of_range=0.0)) == [("out of range", name)]


def test_a_hole_and_a_spike_are_named_by_their_day() -> None:
    data = sound()
    third, fifth = (
        str(np.datetime64((START // DAY + n) * DAY, "ms").astype("M8[D]")) for n in (3, 5)
    )
    days = data.time // DAY - START // DAY
    assert failed(data.take(np.flatnonzero(days != 3))) == [("volume by median", third)]
    spike = np.sort(np.concatenate([np.arange(ROWS), np.tile(np.flatnonzero(days == 5), 6)]))
    assert failed(data.take(spike), DataBounds(duplicates=1.0)) == [("volume by median", fifth)]


def test_transactions_twice_and_labels_before_them() -> None:
    data = sound()
    twice = np.sort(np.concatenate([np.arange(ROWS), [7, 8]]))
    assert failed(data.take(twice)) == [("duplicate ids", "")]
    assert check(data.take(twice)).failures[0].figure == pytest.approx(2 / (ROWS + 2))
    data.label_time[:10] = data.time[:10] - 1
    assert failed(data) == [("labels before transactions", "")]


def test_rows_out_of_order() -> None:
    data = sound()
    order = np.arange(ROWS)
    order[[10, 11]] = 11, 10
    assert failed(data.take(order)) == [("unordered rows", "")]


@pytest.mark.parametrize("way", ["value", "reversed", "absence"])
def test_a_feature_that_gives_the_label_away(way: str) -> None:
    data = sound()
    leak = {"value": data.fraud, "reversed": ~data.fraud,
            "absence": np.where(data.fraud, np.nan, 0.5)}[way]  # fmt: skip
    data.vectors[:, 50] = leak
    name = CATALOGUE[50].name
    assert failed(data) == [("AUC alone", name)]
    assert failed(data, DataBounds(leakage_exempt=frozenset([name]))) == []


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([2, 3], np.float32), np.array([1, 2], np.float32)) == 0.875
    assert auc(np.zeros(0, np.float32), np.ones(1, np.float32)) == 0.5


def test_bounds_come_from_a_file_and_its_errors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bounds.yaml"
    path.write_text("rows: 10\nleakage_auc: 0.9\nmissing_of: {amount: 0.5}\n")
    assert DataBounds.load(path) == DataBounds(rows=10, leakage_auc=0.9, missing_of={"amount": 0.5})
    path.write_text("rows: none\nfraud_rate: [0.5, 0.1]\nsurprise: 1\n")
    with pytest.raises(ConfigurationError, match=r"(?s)rows.*fraud_rate.*surprise"):
        DataBounds.load(path)
    path.write_text("ranges: {no_such: [0, 1]}\n")
    with pytest.raises(ConfigurationError, match="no such features: no_such"):
        DataBounds.load(path)


def test_the_table_shows_figure_and_bound() -> None:
    out = StringIO()
    Console(file=out, width=120).print(check(sound(400), DataBounds(frauds=10)).table())
    row = next(line for line in out.getvalue().splitlines() if "failed" in line)
    assert "rows" in row
    assert "400" in row
    assert "at least 1000" in row


def test_the_command_judges_an_archive(tmp_path: Path) -> None:
    url = str(tmp_path / "a")
    filled(url, features=[feature(n) for n in range(30)], labels=[label(n, n) for n in range(3)])
    bounds = tmp_path / "bounds.yaml"
    bounds.write_text("rows: 10\nfrauds: 2\nleakage_auc: 1.0\nout_of_range: 1.0\n")
    cut = ["data-check", "--archive", url, "--label-delay", "1s", "--json", "-"]
    passed = CliRunner().invoke(app, [*cut, "--bounds", str(bounds)])
    assert passed.exit_code == 0, passed.output
    report = json.loads(passed.stdout)
    assert (report["rows"], report["frauds"]) == (30, 3)
    assert len(report["provenance"]["sha256"]) == 64
    refused = CliRunner().invoke(app, cut)
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["failures"][0]["name"] == "rows"
    early = CliRunner().invoke(app, [*cut, "--cutoff", "2020-01-01"])
    assert isinstance(early.exception, ConfigurationError)
    assert "has no transaction" in str(early.exception)
