"""Batch training: dataset to trained, calibrated model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xgboost

from schemas.features import ANOMALY_FEATURE, DAY, NAMES
from scorer.model.anomaly import AnomalyModel, anomaly_scores
from trainer.dataset.dataset import Dataset
from trainer.dataset.time_split import known_fraud, split
from trainer.evaluation import evaluate
from trainer.training import isolation_forest, parameters, thresholds
from trainer.training.as_of import KNOWN_DAYS, as_of
from trainer.training.out_of_fold import Predict, Rows, out_of_fold
from trainer.training.search import Examples, Metric, SearchOptions, best_rounds, search
from trainer.training.thresholds import Judged, PrecisionTargets

COLUMNS = (*NAMES, ANOMALY_FEATURE)
MIN_IMMATURE: Final = 50
"""Immature frauds that suffice to calibrate on immature rows alone."""
MIN_REFERENCE: Final = 1_000
"""Rows that suffice as a reference of drift."""
NEWEST_MS: Final = 2 * DAY
"""Alerts settled on the newest of them must be precise enough by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How to train. `rounds` is the most trees; without `targets` the default thresholds hold.

    `max_depth` and `eta`, when given, replace the defaults of `trainer.training.parameters`.

    With `early_stopping` or `search` fewer trees may do: as many as were best on the newest
    quarter of the training part.
    """

    gap_ms: int = 7 * DAY
    rounds: int = parameters.ROUNDS
    max_depth: int | None = None
    eta: float | None = None
    metric: Metric = "aucpr"
    early_stopping: bool = False
    search: SearchOptions | None = None
    targets: PrecisionTargets | None = None
    threads: int = 1
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Holdout:
    """The test part: rows of the dataset, labels, and what the model says of them.

    `probability` ranks; `score` is calibrated, and compared with the thresholds.
    """

    rows: slice
    fraud: npt.NDArray[np.bool_]
    probability: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]


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
    parameters: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of the dataset, ascending, and which of them are known as fraud."""

    rows: Rows
    fraud: npt.NDArray[np.bool_]

    def and_then(self, other: _Part) -> _Part:
        return _Part(
            np.concatenate([self.rows, other.rows]), np.concatenate([self.fraud, other.fraud])
        )

    def take(self, places: Rows) -> _Part:
        return _Part(self.rows[places], self.fraud[places])

    def examples(
        self, matrix: npt.NDArray[np.float32], weights: npt.NDArray[np.float32], seed: int
    ) -> Examples:
        """Return all frauds, and a weighted sample of the rest, to learn from."""
        kept, weight = thinned(self.fraud, seed)
        rows = self.rows[kept]
        return Examples(matrix[rows], self.fraud[kept], weight * weights[rows])


def train(
    data: Dataset,
    options: TrainOptions | None = None,
    *,
    progress: Callable[[float], None] | None = None,
) -> tuple[Trained, Holdout]:
    """Train on the past, calibrate on what follows it, measure on the holdout after the gap.

    Immature rows, where there are any, are trained on as well, by their weights, and so are the
    rows that otherwise only calibrate. Calibration then rests on the immature rows, each with the
    probability by a model that has not seen its card. Thresholds rest on the rows before the
    holdout, whose genuine ones are known, as they would look today, and on the newest settled
    alerts. The holdout has only mature rows.

    `progress` gets the share of the search's budget that is spent.

    Raises:
        ConfigurationError: too short a history, or only one class in a part.
    """
    options = options or TrainOptions()
    parts = split(data, gap_ms=options.gap_ms)
    # Immature rows are younger than the holdout, so with them all is known that is known today.
    until = parts.cutoff if not data.immature else int(data.label_time.max())
    fitted = known_fraud(data, parts.train, until)
    later = known_fraud(data, parts.calibration, until)
    holdout = data.fraud[parts.test]
    named = (("training", fitted), ("calibration", later), ("test", holdout))
    for part, fraud in named:
        evaluate.require_both_classes(fraud, part)
    isolation = isolation_forest.train(data.vectors[parts.train], seed=options.seed)
    matrix = np.column_stack([data.vectors, anomaly_scores(isolation, data.vectors)])
    weights = np.ones(len(data), np.float32) if data.weight is None else data.weight
    immature = np.arange(data.mature, len(data))
    learned = _Part(np.arange(parts.train.stop), fitted)
    judged = _Part(np.arange(parts.calibration.start, parts.calibration.stop), later)
    if len(immature):
        learned = learned.and_then(judged).and_then(_Part(immature, data.fraud[immature]))
    examples = learned.examples(matrix, weights, options.seed)
    settings, findings = _settings(examples, options, progress)
    booster = _boosted(examples, settings, options.threads)
    usual = _in_full_windows(data.time)
    if len(immature):
        today = _today(matrix, data)

        def fit(places: Rows) -> Predict:
            part = learned.take(places)
            evaluate.require_both_classes(part.fraud, "fold of the training")
            one = _boosted(part.examples(matrix, weights, options.seed), settings, options.threads)
            return lambda own: _probability(one, today[own])

        unseen = out_of_fold(data.transactions.card, learned.rows, fit)
        judged = learned.take(_calibrating(learned, data.mature, parts.calibration.start))
        usual = judged.rows  # drift is measured against the newest, not against weeks ago
        chosen_on = _Part(np.arange(parts.test.start), data.fraud[: parts.test.start])
    else:
        unseen = np.zeros(len(data))
        unseen[judged.rows] = _probability(booster, matrix[judged.rows])
        chosen_on = judged
    x, y = evaluate.calibration_knots(unseen[judged.rows], judged.fraud, weights[judged.rows])
    raw = _probability(booster, matrix[parts.test])
    score, calibrated = np.interp(raw, x, y), np.interp(unseen, x, y)
    limits, notes = dict(thresholds.DEFAULTS), list[str]()
    if options.targets is not None:
        limits, notes = thresholds.choose(
            calibrated[chosen_on.rows], chosen_on.fraud, options.targets, _settled(data, calibrated)
        )
    histograms = {
        name: evaluate.histogram(matrix[usual, index]) for index, name in enumerate(COLUMNS)
    }
    histograms["score"] = evaluate.histogram(calibrated[usual] if len(immature) else score)
    trained = Trained(
        booster, isolation, x, y, limits, histograms,
        _metrics(raw, score, holdout, limits, len(learned.rows)),
        {**settings, **findings}, tuple(notes),
    )  # fmt: skip
    return trained, Holdout(parts.test, holdout, raw, score)


def _in_full_windows(time: npt.NDArray[np.int64]) -> Rows:
    """Return the rows to measure drift against: those since the longest window could be full.

    Where the data is too short, all of them. The first weeks of a system are not typical.
    """
    rows = np.flatnonzero(time >= time[0] + KNOWN_DAYS * DAY)
    return rows if len(rows) >= MIN_REFERENCE else np.arange(len(time))


def _today(matrix: npt.NDArray[np.float32], data: Dataset) -> npt.NDArray[np.float32]:
    """Return all rows, the mature ones as they would come at the time of the newest."""
    today, past = matrix.copy(), slice(data.mature)
    today[past] = as_of(matrix[past], data.time[past], int(data.time[-1]))
    return today


def _settled(data: Dataset, score: npt.NDArray[np.float64]) -> Judged | None:
    """Return the alerts settled on the newest immature days; None if they are not known."""
    if not data.immature or data.settled is None:
        return None
    rows = np.flatnonzero(data.settled & (data.time > data.time[-1] - NEWEST_MS))
    rows = rows[rows >= data.mature]
    return Judged(score[rows], data.fraud[rows])


def _calibrating(learned: _Part, mature: int, later: int) -> Rows:
    """Return the places of `learned` to calibrate on: the immature rows, if they hold enough fraud.

    If not, those from the row `later` on, too.
    """
    immature = np.flatnonzero(learned.rows >= mature)
    enough = learned.fraud[immature].sum() >= MIN_IMMATURE
    return immature if enough else np.flatnonzero(learned.rows >= later)


def _settings(
    examples: Examples, options: TrainOptions, progress: Callable[[float], None] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the hyper-parameters to fit with, `rounds` among them, and how they were found."""
    fixed = parameters.learner(seed=options.seed, threads=options.threads)
    fixed["eval_metric"] = options.metric
    given = {"max_depth": options.max_depth, "eta": options.eta}
    fixed |= {name: value for name, value in given.items() if value is not None}
    rounds, findings = options.rounds, dict[str, Any]()
    if (options.search is not None or options.early_stopping) and _can_validate(examples):
        if options.search is not None:
            found = search(
                examples, fixed, rounds, options.search,
                seed=options.seed, progress=progress,
            )  # fmt: skip
            fixed, rounds = {**fixed, **found.parameters}, found.rounds
            findings = {
                "search_trials": found.trials,
                "search_pruned": found.pruned,
                f"search_{options.search.metric}": found.value,
            }
        else:
            rounds = best_rounds(examples, fixed, rounds)
    return {**fixed, "rounds": rounds}, findings


def _boosted(examples: Examples, settings: dict[str, Any], threads: int) -> xgboost.Booster:
    matrix = xgboost.QuantileDMatrix(
        examples.matrix, examples.fraud, weight=examples.weight,
        feature_names=list(COLUMNS), nthread=threads,
    )  # fmt: skip
    fixed = {name: value for name, value in settings.items() if name != "rounds"}
    return xgboost.train(fixed, matrix, num_boost_round=settings["rounds"])


def _probability(
    booster: xgboost.Booster, matrix: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    return np.asarray(booster.inplace_predict(matrix, validate_features=False), np.float64)


def _can_validate(examples: Examples) -> bool:
    """Return whether both halves have both classes; if not, the given setting is taken."""
    return all(0 < part.fraud.sum() < len(part.fraud) for part in examples.halves())


def _metrics(
    raw: npt.NDArray[np.float64],
    score: npt.NDArray[np.float64],
    fraud: npt.NDArray[np.bool_],
    limits: dict[str, float],
    train_rows: int,
) -> dict[str, float]:
    # Isotonic steps tie scores, which costs AUC; the ranking is judged before calibration.
    metrics = evaluate.metrics(raw, fraud)
    metrics["brier"] = float(np.mean((score - fraud) ** 2))
    blocked, alerted = score > limits["block"], score > limits["review"]
    metrics["block_rate"] = float(np.mean(blocked))
    metrics["review_rate"] = float(np.mean(alerted & ~blocked))
    metrics["recall"] = float(np.mean(score[fraud] > limits["review"]))
    metrics["train_rows"] = float(train_rows)
    return metrics


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
