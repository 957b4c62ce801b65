"""Each gate refuses for its own reason and says its figure and its bound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from schemas.columns import CHANNELS, empty_columns, pack_country
from schemas.errors import ConfigurationError
from trainer.evaluation.gate_bounds import load_bounds
from trainer.evaluation.gates import Evidence, GateVerdict, judge
from trainer.evaluation.resampling import auc_difference, intervals
from trainer.evaluation.slices import slice_labels, slice_reports

ROWS = 6_000
DRAW = np.random.default_rng(4)
FRAUD = DRAW.random(ROWS) < 0.05
GOOD = DRAW.normal(size=ROWS) + 3.5 * FRAUD
POOR = DRAW.normal(size=ROWS) + 1.0 * FRAUD
FEW = DRAW.random(ROWS) < 0.01
CHANNEL = np.array(["POS", "ECOM"])[np.arange(ROWS) % 2]
LATE = np.arange(ROWS) > ROWS // 2


def evidence(**changes: Any) -> Evidence:
    sound = Evidence(
        fraud=FRAUD,
        probability=GOOD,
        alerted=FEW,
        champion_id="m0",
        champion_probability=GOOD + DRAW.normal(size=ROWS) * 0.1,
        row_us=20.0,
        bundle_bytes=1_000_000,
        slices=slice_reports({"channel": CHANNEL}, FRAUD, FEW, min_rows=500),
    )
    return replace(sound, **changes)


def channels(alerted: np.ndarray[Any, Any]) -> Any:
    return slice_reports({"channel": CHANNEL}, FRAUD, alerted, min_rows=500)


def test_a_sound_model_passes_every_gate() -> None:
    report = judge(evidence(), load_bounds())
    assert report.passed, report.failures
    assert {verdict.gate for verdict in report.verdicts} == {
        "auc", "champion", "time folds", "latency", "bundle", "alert rate", "fairness by channel",
    }  # fmt: skip
    assert judge(evidence(champion_probability=None), load_bounds()).passed


@pytest.mark.parametrize(
    ("gate", "changes", "figure", "bound"),
    [
        ("auc", {"probability": POOR, "champion_probability": None}, "AUC 0.7", "0.9"),
        ("champion", {"champion_probability": GOOD + 1.5 * FRAUD}, "AUC -0.00", "-0.001"),
        ("latency", {"row_us": 1500.0}, "1500 µs", "1000"),
        ("bundle", {"bundle_bytes": 25_300_000}, "25.30 MB", "20"),
        ("alert rate", {"alerted": ~FEW, "slices": ()}, "99.", "5.000%"),
        ("alert rate", {"alerted": FEW & False, "slices": ()}, "0.000%", "0.010%"),
        (
            "time folds",
            {"probability": np.where(LATE, GOOD - 2.5 * FRAUD, GOOD + FRAUD)},
            "standard deviation",
            "5.00%",
        ),
        (
            "fairness by channel",
            {"slices": channels(FEW | (DRAW.random(ROWS) < 0.2 * (CHANNEL == "POS")))},
            "'POS'",
            "5.000%",
        ),
    ],
)
def test_each_gate_fails_alone_with_figure_and_bound(
    gate: str, changes: dict[str, Any], figure: str, bound: str
) -> None:
    bounds = load_bounds()
    if gate == "champion":
        bounds = bounds.model_copy(
            update={"champion": bounds.champion.model_copy(update={"margin": 0.001})}
        )
    if gate == "time folds":
        changes = {**changes, "champion_probability": None}
    failures = judge(evidence(**changes), bounds).failures
    assert gate in {verdict.gate for verdict in failures}
    verdict = next(verdict for verdict in failures if verdict.gate == gate)
    assert figure in verdict.text
    assert bound in verdict.text
    allowed = {gate, "auc"} if gate == "time folds" else {gate}
    if gate == "auc":
        allowed |= {"time folds"}
    assert {verdict.gate for verdict in failures} <= allowed


def against(candidate: Any, champion: Any, saw: Any) -> GateVerdict:
    changed = evidence(probability=candidate, champion_probability=champion, champion_saw=saw)
    return next(each for each in judge(changed, load_bounds()).verdicts if each.gate == "champion")


def test_where_the_champion_has_learned_it_is_not_compared() -> None:
    saw = np.arange(ROWS) >= 2 * ROWS // 3
    candidate = GOOD - 0.5 * FRAUD
    by_heart = np.where(saw, GOOD + 3.0 * FRAUD, candidate)
    assert not against(candidate, by_heart, None).passed
    verdict = against(candidate, by_heart, saw)
    assert verdict.passed, verdict.text
    assert verdict.bound == -load_bounds().champion.margin
    assert "the 4,000 same rows from which that one has not learned" in verdict.text
    worse = against(GOOD - FRAUD, by_heart, saw)
    assert not worse.passed
    assert worse.bound == -load_bounds().champion.margin


def test_with_few_frauds_left_all_rows_count_by_the_wider_margin() -> None:
    saw = np.ones(ROWS, np.bool_)
    saw[np.flatnonzero(FRAUD)[:149]] = False
    saw[:20] = False
    verdict = against(GOOD - 0.5 * FRAUD, GOOD, saw)
    assert verdict.bound == -load_bounds().champion.seen_margin
    assert "not learned hold 149 frauds, 150 are needed" in verdict.text
    saw[np.flatnonzero(FRAUD)[:150]] = False
    assert against(GOOD, GOOD, saw).bound == -load_bounds().champion.margin


def test_a_group_with_many_times_the_rate_of_all_is_refused_by_the_ratio() -> None:
    band = np.where(np.arange(ROWS) % 10 == 0, "high", "low")
    alerted = ~FRAUD & (band == "high") & (np.arange(ROWS) % 60 == 0)
    bounds = load_bounds()
    fair = bounds.fairness.model_copy(
        update={"most_difference": 0.5, "most_ratio": 5.0, "least_rows": 100}
    )
    slices = slice_reports({"amount band": band}, FRAUD, alerted, min_rows=100)
    failed = judge(evidence(slices=slices), bounds.model_copy(update={"fairness": fair})).failures
    assert [verdict.gate for verdict in failed] == ["fairness by amount band"]
    assert "times that of all, at most 5 times" in failed[0].text


def test_too_few_frauds_to_compare_folds_is_a_refusal() -> None:
    fraud = np.zeros(ROWS, np.bool_)
    fraud[::200] = True
    failed = judge(
        evidence(fraud=fraud, probability=fraud * 1.0, champion_probability=None), load_bounds()
    ).failures
    assert "30 frauds in the holdout, 40 are needed" in failed[0].text


def test_a_file_changes_only_the_bounds_it_names(tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text("auc: {least: 0.8}\n")
    assert load_bounds(path).auc.least == 0.8
    assert load_bounds(path).latency == load_bounds().latency
    for text, named in (
        ("auc: {least: high}", "auc.least"),
        ("speed: {most: 1}", "speed"),
        ("auc: 3", "cannot read"),
        ("a: [", "cannot read"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=named):
            load_bounds(path)


def test_the_bootstrap_agrees_with_scikit_learn_and_brackets_the_figure() -> None:
    tied = np.asarray(np.round(GOOD, 1), np.float64)
    found = intervals(tied, tied, FRAUD, {"review": 2.0}, replicates=100)
    assert found["auc"].value == pytest.approx(roc_auc_score(FRAUD, tied))
    assert found["average_precision"].value == pytest.approx(average_precision_score(FRAUD, tied))
    assert found["review_precision"].value == pytest.approx(FRAUD[tied > 2.0].mean())
    assert found["review_recall"].value == pytest.approx((tied[FRAUD] > 2.0).mean())
    for interval in found.values():
        assert interval.low < interval.value < interval.high
    # Paired: two models that rank alike differ less than either of them varies.
    same = auc_difference(GOOD, GOOD + 1e-3 * POOR, FRAUD, replicates=100)
    assert same.high - same.low < (found["auc"].high - found["auc"].low) / 10


def test_slices_follow_channel_amount_and_country() -> None:
    columns = empty_columns(4)._replace(
        amount=np.array([999, 1_000, 20_000, 100_000]),
        channel=np.array([0, 1, 1, 4], np.int8),
        card_country=np.array([pack_country("DE"), pack_country("FR"), 0, 0], np.uint16),
    )
    labels = slice_labels(columns)
    assert labels["channel"].tolist() == ["POS", "ECOM", "ECOM", "OTHER"]
    assert labels["amount band"].tolist() == [
        "under 10",
        "10 to 50",
        "200 to 1000",
        "1000 and more",
    ]
    assert labels["card country"].tolist() == ["DE", "FR", "unknown", "unknown"]
    assert CHANNELS[4] == "OTHER"


def test_a_group_with_many_times_a_tiny_rate_is_not_a_fault() -> None:
    band = np.where(np.arange(ROWS) % 20 == 0, "high", "low")
    genuine = np.flatnonzero((band == "high") & ~FRAUD)

    def fairness(alerts: int) -> GateVerdict:
        alerted = np.isin(np.arange(ROWS), genuine[:alerts])
        slices = slice_reports({"amount band": band}, FRAUD, alerted, min_rows=100)
        return next(
            verdict
            for verdict in judge(evidence(slices=slices), load_bounds()).verdicts
            if verdict.gate == "fairness by amount band"
        )

    assert 0.005 < 2 / len(genuine) < 0.01 < 5 / len(genuine) < 0.05
    few, many = fairness(2), fairness(5)
    assert few.figure == pytest.approx(many.figure)
    assert few.figure > 10
    assert (few.passed, many.passed) == (True, False)


def test_a_model_that_is_perhaps_worse_than_the_champion_is_refused() -> None:
    """Its AUC is lower by less than the margin, but so few frauds do not say so surely."""
    rows = np.arange(ROWS) < 1_000
    draw = np.random.default_rng(9)
    champion = draw.normal(size=1_000) + 2.5 * FRAUD[rows]
    candidate = champion + draw.normal(size=1_000) * 0.3
    changed = evidence(
        fraud=FRAUD[rows], probability=candidate, champion_probability=champion,
        alerted=FEW[rows], slices=(),
    )  # fmt: skip
    report = judge(changed, load_bounds())
    verdict = next(each for each in report.verdicts if each.gate == "champion")
    difference = auc_difference(candidate, champion, FRAUD[rows])
    assert difference.low < -0.01 < difference.value
    assert not verdict.passed
    assert verdict.figure == difference.low
