"""Thresholds keep the wanted precision, or say that they cannot."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.training.thresholds import (
    Judged,
    PrecisionTargets,
    choose,
    threshold_for,
)

DRAW = np.random.default_rng(8)
SCORE = np.round(DRAW.random(20_000), 3)
FRAUD = DRAW.random(20_000) < SCORE**3


@pytest.mark.parametrize("wanted", [0.3, 0.6, 0.9])
def test_the_threshold_is_the_lowest_that_has_the_precision(wanted: float) -> None:
    limit = threshold_for(SCORE, FRAUD, wanted)
    assert limit is not None
    assert FRAUD[limit < SCORE].mean() >= wanted
    lower = np.unique(SCORE[limit > SCORE])
    assert all(FRAUD[step - 1e-6 < SCORE].mean() < wanted for step in lower)


def test_a_precision_of_few_alerts_is_not_believed() -> None:
    fraud = np.arange(1000) >= 981
    score = np.arange(1000) / 1000
    assert threshold_for(score, fraud, 1.0) is None
    assert threshold_for(score, fraud | (np.arange(1000) >= 980), 1.0) == pytest.approx(0.9795)


def test_every_row_may_be_above_the_threshold() -> None:
    limit = threshold_for(np.full(50, 0.4), np.ones(50, np.bool_), 0.9)
    assert limit is not None
    assert 0.0 <= limit < 0.4


def test_unreachable_targets_fall_back_to_the_defaults_and_are_noted() -> None:
    hopeless = DRAW.random(20_000) < 0.01
    limits, notes = choose(SCORE, hopeless, PrecisionTargets())
    assert limits == {"block": 0.95, "review": 0.75}
    assert ["block" in notes[0], "review" in notes[1], len(notes)] == [True, True, 2]
    limits, notes = choose(SCORE, FRAUD, PrecisionTargets(block=0.9, review=0.3))
    assert notes == []
    assert limits["review"] < limits["block"] < 0.95


def test_review_is_never_above_block() -> None:
    targets = PrecisionTargets(block=0.3, review=0.9999)
    limits, notes = choose(SCORE, FRAUD, targets)
    assert limits["review"] <= limits["block"]
    assert notes


def test_an_alert_budget_bounds_the_threshold() -> None:
    score = np.arange(1000) / 1000
    fraud = np.arange(1000) >= 900
    free = threshold_for(score, fraud, 0.5)
    bounded = threshold_for(score, fraud, 0.5, max_false=0.01)
    assert free == pytest.approx(0.7995)
    assert bounded == pytest.approx(0.8905)


def test_settled_alerts_have_to_be_precise_by_themselves() -> None:
    """Lately honest rows score up to 0.95, which the others do not show."""
    score = np.tile(np.arange(1000) / 1000, 10)
    fraud = score >= 0.7
    lately = np.arange(600, 1000) / 1000
    targets = PrecisionTargets(block=0.9, review=0.9, settled=0.9)
    loose, _ = choose(score, fraud, targets)
    settled = Judged(lately, lately >= 0.95)
    strict, notes = choose(score, fraud, targets, settled)
    assert loose["review"] < 0.8
    assert settled.fraud[settled.score > loose["review"]].mean() < 0.3
    assert settled.fraud[settled.score > strict["review"]].mean() >= 0.9
    assert notes == []
    higher = PrecisionTargets(block=0.9, review=0.5, settled=0.9)
    limits, _ = choose(score, fraud, higher, settled)
    assert limits["review"] == strict["review"]  # whatever is presumed of other rows
    hopeless = Judged(lately, np.zeros(len(lately), np.bool_))
    limits, notes = choose(score, fraud, targets, hopeless)
    assert (limits, len(notes)) == ({"block": 0.95, "review": 0.75}, 2)
    budget = PrecisionTargets(block=0.9, review=0.9, settled=0.9, max_false=0.0)
    tight = score * (1 - (score > 0.5) * ~fraud * 0.5)
    kept, _ = choose(np.where(fraud, score, 0.98 * tight + 0.01), score >= 0.99, budget, hopeless)
    assert kept["review"] > 0.98, "bad evidence on settled alerts does not spend the budget"
    few = Judged(lately[:19], np.zeros(19, np.bool_))
    assert choose(score, fraud, targets, few)[0] == loose  # too few to tell


def test_blocking_wants_its_own_precision_of_settled_alerts_too() -> None:
    """Of these, 92 in a hundred are frauds: enough to be reviewed, not to be blocked."""
    score = np.arange(1000) / 1000
    lower = np.random.default_rng(2).permutation(100) < 84
    settled = Judged(
        np.concatenate([np.linspace(0.6, 0.7, 100), np.linspace(0.8, 0.99, 100)]),
        np.concatenate([lower, np.ones(100, np.bool_)]),
    )
    limits, notes = choose(score, score >= 0.5, PrecisionTargets(), settled)
    assert notes == []
    assert limits["review"] == pytest.approx(0.3335)  # 666 rows, of which 500 are frauds
    assert settled.fraud[settled.score > limits["review"]].mean() == 0.92
    assert limits["block"] > 0.6
    assert settled.fraud[settled.score > limits["block"]].mean() >= 0.95


def test_by_default_nine_in_ten_settled_alerts_are_to_be_right() -> None:
    score = np.arange(1000) / 1000
    alerts = np.full(100, 0.9)
    limits, notes = choose(
        score, score >= 0.5, PrecisionTargets(), Judged(alerts, np.arange(100) < 89)
    )
    assert limits == {"block": 0.95, "review": 0.75}
    assert ["0.95" in notes[0], "0.9 " in notes[1]] == [True, True]
    limits, notes = choose(
        score, score >= 0.5, PrecisionTargets(), Judged(alerts, np.arange(100) < 90)
    )
    assert limits["review"] == pytest.approx(0.45)
