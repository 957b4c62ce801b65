"""Batch training: dataset to trained, calibrated model. Called by `python -m trainer bootstrap`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost

from schemas.features import ANOMALY_FEATURE, DAY, NAMES
from scorer.anomaly import AnomalyModel, anomaly_scores
from trainer import anomaly, evaluate, parameters
from trainer.dataset import Dataset, known_fraud, split

COLUMNS = (*NAMES, ANOMALY_FEATURE)
THRESHOLDS = {"block": 0.95, "review": 0.75}


@dataclass(frozen=True, slots=True)
class Trained:
    """A model over the 71 `COLUMNS`; calibrated score = interp(probability, knots_x, knots_y)."""

    booster: xgboost.Booster
    anomaly: AnomalyModel
    knots_x: npt.NDArray[np.float64]
    knots_y: npt.NDArray[np.float64]
    thresholds: dict[str, float]
    histograms: dict[str, Any]
    metrics: dict[str, float]


def train(
    data: Dataset,
    *,
    gap_ms: int = 7 * DAY,
    rounds: int = parameters.ROUNDS,
    threads: int = 1,
    seed: int = 7,
) -> Trained:
    """Train on the past, calibrate on what follows it, measure on the holdout after the gap.

    Raises:
        ConfigurationError: too short a history, or only one class in a part.
    """
    parts = split(data, gap_ms=gap_ms)
    fitted = known_fraud(data, parts.train, parts.cutoff)
    later = known_fraud(data, parts.calibration, parts.cutoff)
    holdout = data.fraud[parts.test]
    named = (("training", fitted), ("calibration", later), ("test", holdout))
    for part, fraud in named:
        evaluate.require_both_classes(fraud, part)
    isolation = anomaly.train(data.vectors[parts.train], seed=seed)
    matrix = np.column_stack([data.vectors, anomaly_scores(isolation, data.vectors)])
    kept, weight = thinned(fitted, seed)
    booster = xgboost.train(
        parameters.learner(seed=seed, threads=threads),
        xgboost.QuantileDMatrix(
            matrix[parts.train][kept],
            fitted[kept],
            weight=weight,
            feature_names=list(COLUMNS),
            nthread=threads,
        ),
        num_boost_round=rounds,
    )

    def probability(rows: slice) -> npt.NDArray[np.float64]:
        predicted = booster.inplace_predict(matrix[rows], validate_features=False)
        return np.asarray(predicted, np.float64)

    x, y = evaluate.calibration_knots(probability(parts.calibration), later)
    raw = probability(parts.test)
    score = np.interp(raw, x, y)
    histograms = {
        name: evaluate.histogram(matrix[parts.train, index]) for index, name in enumerate(COLUMNS)
    }
    histograms["score"] = evaluate.histogram(score)
    # Isotonic steps tie scores, which costs AUC; the ranking is judged before calibration.
    metrics = evaluate.metrics(raw, holdout)
    metrics["brier"] = float(np.mean((score - holdout) ** 2))
    blocked = score > THRESHOLDS["block"]
    metrics["block_rate"] = float(np.mean(blocked))
    metrics["review_rate"] = float(np.mean((score > THRESHOLDS["review"]) & ~blocked))
    metrics["recall"] = float(np.mean(score[holdout] > THRESHOLDS["review"]))
    metrics["train_rows"] = float(len(fitted))
    return Trained(booster, isolation, x, y, dict(THRESHOLDS), histograms, metrics)


def thinned(
    fraud: npt.NDArray[np.bool_], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return rows to train on, all frauds and some of the rest, and the weights that make up."""
    genuine = np.flatnonzero(~fraud)
    wanted = min(parameters.GENUINE_PER_FRAUD * int(fraud.sum()), len(genuine))
    chosen = np.random.default_rng(seed).choice(genuine, wanted, replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(fraud), chosen]))
    weight = np.where(fraud[rows], 1.0, len(genuine) / wanted).astype(np.float32)
    return rows, weight
