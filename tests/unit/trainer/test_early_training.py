"""Training with immature rows: what is new is caught, at thresholds of rows that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from schemas.columns import empty_columns
from schemas.errors import ConfigurationError
from schemas.features import DAY, NAMES
from scorer.model.anomaly import anomaly_scores
from trainer.dataset.dataset import Dataset
from trainer.training import batch_training
from trainer.training.thresholds import DEFAULTS, PrecisionTargets

START = 1_700_000_000_000
DAYS, IMMATURE_DAYS, A_DAY = 40, 7, 200
MERCHANT_AGE = NAMES.index("merchant_age_days")
OLD, NEW, HONEST = 0, 1, 2
"""Kinds of row: known fraud shows in feature 0, the new one in feature 1."""


def rows(kind: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(len(kind), len(NAMES))).astype(np.float32)
    vectors[kind == OLD, 0] += 4.0
    vectors[kind == NEW, 1] += 4.0
    return vectors


def history(*, honest_alike: bool = False, ages: bool = False) -> Dataset:
    """Return 33 mature and 7 immature days; the new fraud begins with the third immature day.

    With `honest_alike` honest rows of the last day look like the known fraud, twice as many; those
    of the last two days are settled. With `ages` each row tells by the merchant's age when it was.
    """
    draw = np.random.default_rng(4)
    day = np.repeat(np.arange(DAYS), A_DAY)
    kind = np.where(draw.random(len(day)) < 0.1, OLD, HONEST)
    kind[(day >= DAYS - 5) & (draw.random(len(day)) < 0.1)] = NEW
    fraud = kind != HONEST
    if honest_alike:
        alike = (day == DAYS - 1) & ~fraud & (draw.random(len(day)) < 0.2)
        kind[alike] = OLD
    time = START + np.sort(day * DAY + draw.integers(0, DAY, len(day)))
    card = draw.integers(0, 300, len(day)).astype(np.uint64)
    columns = empty_columns(len(day))._replace(time=time, card=card)
    immature = int((day >= DAYS - IMMATURE_DAYS).sum())
    weight, vectors = np.ones(len(day), np.float32), rows(kind, 5)
    if ages:
        vectors[:, MERCHANT_AGE] = 30 + (time - START) / DAY
    settled = (kind == OLD) & (day >= DAYS - 2)
    return Dataset(columns, vectors, fraud, time + DAY, immature, weight, settled)


def options(**targets: float) -> batch_training.TrainOptions:
    return batch_training.TrainOptions(rounds=20, eta=0.3, targets=PrecisionTargets(**targets))


def alerted(
    trained: batch_training.Trained, vectors: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    matrix = np.column_stack([vectors, anomaly_scores(trained.anomaly, vectors)])
    raw = trained.booster.inplace_predict(matrix, validate_features=False)
    score = np.interp(raw, trained.knots_x, trained.knots_y)
    return np.asarray(score > trained.thresholds["review"])


def test_the_new_fraud_is_caught_within_the_budget_of_false_alerts() -> None:
    trained, holdout = batch_training.train(
        history(), options(block=0.95, review=0.8, max_false=0.01)
    )
    assert trained.notes == ()
    new, honest = rows(np.full(2_000, NEW), 6), rows(np.full(20_000, HONEST), 7)
    assert alerted(trained, new).mean() > 0.6
    assert 0.002 < alerted(trained, honest).mean() < 0.02
    assert holdout.rows.stop == len(history()) - IMMATURE_DAYS * A_DAY
    blind, _ = batch_training.train(
        history().take(np.arange(holdout.rows.stop)), options(block=0.95, review=0.8)
    )
    assert alerted(blind, new).mean() < 0.2


def test_the_budget_is_kept_by_the_rows_of_today_where_the_model_knows_what_is_new() -> None:
    """Much of what is honest looks like the new fraud, which is told from it by its date alone."""
    data = history(ages=True)
    vectors, draw = data.vectors.copy(), np.random.default_rng(9)
    honest = np.flatnonzero(~data.fraud)
    vectors[honest[draw.random(len(honest)) < 0.03], 1] += 4.0
    data = replace(data, vectors=vectors)
    trained, _ = batch_training.train(data, options(block=0.3, review=0.3, max_false=0.01))
    today = rows(np.full(20_000, HONEST), 7)
    today[draw.random(len(today)) < 0.03, 1] += 4.0
    today[:, MERCHANT_AGE] = 30 + DAYS
    assert 0.002 < alerted(trained, today).mean() < 0.03


def test_a_day_of_honest_look_alikes_leaves_no_threshold_that_is_precise() -> None:
    trained, _ = batch_training.train(history(), options(block=0.9, review=0.8))
    assert trained.thresholds["review"] < DEFAULTS["review"]
    trained, _ = batch_training.train(history(honest_alike=True), options(block=0.99, review=0.97))
    assert any("no review threshold reaches" in note for note in trained.notes)
    assert trained.thresholds["review"] >= DEFAULTS["review"]


def test_calibration_is_of_rows_that_the_model_has_not_learned_from() -> None:
    """Labels by chance can be learned by heart, but no card's tell those of another."""
    data = history()
    chance = np.random.default_rng(8).random(len(data)) < 0.2
    data = replace(data, fraud=chance)
    trained, _ = batch_training.train(data, batch_training.TrainOptions(rounds=100, eta=0.3))
    raw = trained.booster.inplace_predict(
        np.column_stack([data.vectors, anomaly_scores(trained.anomaly, data.vectors)]),
        validate_features=False,
    )
    assert raw[chance].mean() > 0.45  # by heart
    assert np.interp(raw[chance], trained.knots_x, trained.knots_y).mean() < 0.4


def test_one_card_cannot_be_divided() -> None:
    data = history()
    columns = data.transactions._replace(card=np.zeros(len(data), np.uint64))
    one = replace(data, transactions=columns)
    with pytest.raises(ConfigurationError, match="fold of the training"):
        batch_training.train(one, options())
