"""Figures of the backtest against examples by hand and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from trainer.backtest import backtest_metrics


def scored(rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    fraud = draw.random(rows) < 0.02
    return np.clip(draw.normal(0.2 + 0.3 * fraud, 0.15), 0, 1).round(4), fraud


def test_ranking_is_scikit_learns_and_its_intervals_hold_it() -> None:
    score, fraud = scored()
    found = backtest_metrics.ranking(score, fraud)
    assert found["auc"] == pytest.approx(roc_auc_score(fraud, score))
    assert found["average_precision"] == pytest.approx(average_precision_score(fraud, score))
    for name in ("auc", "average_precision"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high
        assert high - low < 0.1
    assert found["pr"]["y"][-1] == pytest.approx(fraud.mean(), abs=1e-3)
    assert found["roc"]["y"][-1] == 1.0
    assert all(a <= b for a, b in zip(found["roc"]["low"], found["roc"]["high"], strict=True))


def test_the_interval_of_auc_has_the_width_of_de_long() -> None:
    score, fraud = scored()
    bad, good = np.sort(score[fraud]), np.sort(score[~fraud])

    def below(these: np.ndarray, those: np.ndarray) -> np.ndarray:
        sides = [np.searchsorted(those, these, side) for side in ("left", "right")]
        return (sides[0] + sides[1]) / 2 / len(those)

    error = np.sqrt(below(bad, good).var() / len(bad) + below(good, bad).var() / len(good))
    low, high = backtest_metrics.ranking(score, fraud)["auc_interval"]
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_quality_and_money_by_hand() -> None:
    fraud = np.array([True, True, True, False, False, False])
    action = np.array([2, 1, 0, 2, 1, 0], np.uint8)
    amount = np.array([10_000, 5_000, 2_500, 100, 200, 400])
    blocked = backtest_metrics.quality(action == 2, fraud, amount, days=2.0)
    assert (blocked["precision"]["value"], blocked["recall"]["value"]) == (0.5, 1 / 3)
    assert blocked["recall_by_amount"] == pytest.approx(100 / 175)
    assert blocked["flagged_a_day"] == 1.0
    assert blocked["false_positive_rate"]["value"] == 1 / 3
    assert backtest_metrics.money(action, fraud, amount) == {
        "fraud": 175.0, "saved_by_block": 100.0, "saved_by_review": 50.0, "missed": 25.0,
        "insulted_by_block": 1.0, "delayed_by_review": 2.0, "customers_blocked": 1.0,
        "customers_reviewed": 1.0,
    }  # fmt: skip
    nothing = backtest_metrics.quality(np.zeros(6, np.bool_), fraud, amount, 1.0)["precision"]
    assert nothing == {"value": None, "interval": None, "hits": 0, "of": 0}


def test_card_precision_drops_a_caught_card_on_later_days() -> None:
    day = np.array([0, 0, 0, 0, 1, 1, 1])
    card = np.array([1, 1, 2, 3, 1, 2, 3])
    score = np.array([0.1, 0.9, 0.8, 0.2, 0.99, 0.5, 0.6])
    fraud = np.array([False, True, False, True, True, True, False])
    found = backtest_metrics.card_precision(day, card, score, fraud, k=2)
    # day 0: cards 1 (caught) and 2 of [1, 2, 3]; day 1, without card 1: cards 3 and 2 (caught)
    assert found["value"] == [0.5, 0.5]
    assert (found["mean"], found["cards_caught"]) == (0.5, 2)
    few = backtest_metrics.card_precision(day, card, score, fraud, k=50)
    assert few["value"] == [2 / 3, 1 / 1]  # day 1: only card 2 is left


def test_mix_has_days_without_transactions() -> None:
    found = backtest_metrics.mix_by_day(np.array([5, 5, 7]), np.array([0, 2, 1], np.uint8))
    assert found == {
        "day": [5, 6, 7],
        "approve": [1, 0, 0],
        "review": [0, 0, 1],
        "block": [1, 0, 0],
    }


def test_drift_sees_a_shift_and_a_column_that_goes_missing() -> None:
    draw = np.random.default_rng(1)
    still, gone = draw.normal(size=4000), draw.normal(size=4000)
    gone[2000:] = np.nan
    moved = np.where(np.arange(4000) < 2000, still, still + 1)
    reference = {"still": {"edges": [0.0], "counts": [500, 500], "missing": 0}}
    columns = {"still": still, "moved": moved, "gone": gone}
    found = {row["name"]: row for row in backtest_metrics.drift(columns, 2000, reference)}
    assert found["still"]["halves"] < 0.02
    assert found["still"]["reference"] == pytest.approx(0.0, abs=0.01)
    assert found["moved"]["halves"] > 0.5
    assert found["gone"]["halves"] > 5
    assert (found["gone"]["missing"], found["gone"]["reference"]) == (0.5, None)


def test_a_paired_difference_is_narrower_than_its_parts() -> None:
    score, fraud = scored()
    worse = np.clip(score + np.random.default_rng(9).normal(0, 0.1, len(score)), 0, 1)
    low, high = backtest_metrics.paired(score, worse, fraud)["auc"]
    gain = roc_auc_score(fraud, worse) - roc_auc_score(fraud, score)
    assert low < gain < high < 0
    own = backtest_metrics.ranking(score, fraud)["auc_interval"]
    assert high - low < 1.5 * (own[1] - own[0])
    assert backtest_metrics.paired(score, score, fraud)["auc"] == [0.0, 0.0]
