"""Calibration: right on average, without ties between its first and last step."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.evaluate import MAX_KNOTS, calibration_knots

DRAW = np.random.default_rng(1)
SCORE = DRAW.random(50_000) ** 4
FRAUD = DRAW.random(50_000) < SCORE**2


def test_calibrated_scores_are_shares_of_fraud() -> None:
    x, y = calibration_knots(SCORE, FRAUD)
    score = np.interp(SCORE, x, y)
    assert score.mean() == pytest.approx(FRAUD.mean(), abs=0.002)
    for low in np.arange(0.0, 1.0, 0.2):
        part = (score >= low) & (score < low + 0.2)
        assert FRAUD[part].mean() == pytest.approx(score[part].mean(), abs=0.03)


def test_thresholds_can_lie_anywhere_between_the_outermost_steps() -> None:
    x, y = calibration_knots(SCORE, FRAUD)
    assert len(x) <= MAX_KNOTS
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) > 0).all()
    between = (x[0] < SCORE) & (x[-1] > SCORE)
    assert len(np.unique(np.interp(SCORE[between], x, y))) == len(np.unique(SCORE[between]))


def test_rows_count_by_their_weight() -> None:
    weight = np.where(FRAUD, 3.0, 1.0).astype(np.float32)
    x, y = calibration_knots(SCORE, FRAUD, weight)
    expected = 3.0 * FRAUD.sum() / (3.0 * FRAUD.sum() + (~FRAUD).sum())
    found = np.average(np.interp(SCORE, x, y), weights=weight)
    assert found == pytest.approx(expected, abs=0.005)


def test_scores_of_one_value_give_one_share() -> None:
    x, y = calibration_knots(np.full(10, 0.3), np.arange(10) < 4)
    assert np.interp([0.0, 0.3, 1.0], x, y) == pytest.approx([0.4] * 3)
