"""Benchmark of the catalogue by the handbook's protocol.

The learner is the product's own (`trainer.training.parameters`); nothing is chosen on
the test weeks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xgboost

from schemas.errors import ConfigurationError
from schemas.features import DAY, NAMES, names_of
from trainer.benchmark.handbook_protocol import (
    DELAY_DAYS,
    METRICS,
    TEST_DAYS,
    TRAIN_DAYS,
    HandbookFold,
    fold_metrics,
    make_fold,
)
from trainer.dataset.dataset import Dataset
from trainer.evaluation import evaluate
from trainer.training import batch_training, parameters

SEED: Final = 7
LEFT_OUT: Final = names_of("calendar", "age") - {"device_age_days"} | {"card_hour_deviation"}
"""The calendar, the distance from the usual hour and ages, which a week of training teaches badly:
found on earlier weeks than the folds' (docs/decisions/0007-benchmark.md). The product's own models
have them. The benchmark has no devices; the empty column of their age stays, because which columns
a tree draws, and with it every published figure, depends on their number."""
MORE_TREES: Final = 2
"""Factor on the trees of a week for a model of all history, which has ten times the frauds to learn
from: average precision .747 instead of .743 on those earlier weeks (AUC .888 instead of .890)."""
FOLD_DAYS: Final = TRAIN_DAYS + DELAY_DAYS + TEST_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkOptions:
    """`threads` of XGBoost, and `rounds`: trees of a model that learns from a week."""

    threads: int = 1
    rounds: int = parameters.ROUNDS


def folds(data: Dataset, starts: Sequence[date]) -> list[HandbookFold]:
    """Return the folds of the training weeks that begin at `starts`.

    Raises:
        ConfigurationError: the data does not cover a fold, or one of its parts lacks a class.
    """
    if len(data) == 0:
        raise ConfigurationError("--data has no labelled transactions: nothing to measure")
    made = [make_fold(start, data.time, data.transactions.card, data.fraud) for start in starts]
    first, last = int(data.time[0]), int(data.time[-1])
    for fold in made:
        if first >= fold.first_ms + DAY or last < fold.test_ms + (TEST_DAYS - 1) * DAY:
            begin, end = (np.datetime64(ms, "ms").item() for ms in (first, last))
            raise ConfigurationError(
                f"the fold that starts on {fold.start} takes {FOLD_DAYS} days, the data reaches "
                f"from {begin:%Y-%m-%d} to {end:%Y-%m-%d}: name other training weeks by --start"
            )
        evaluate.require_both_classes(data.fraud[fold.week], f"training week {fold.start}")
        evaluate.require_both_classes(data.fraud[fold.test], f"test week of {fold.start}")
    return made


def run(
    data: Dataset,
    made: Sequence[HandbookFold],
    published: npt.NDArray[np.float32] | None = None,
    options: BenchmarkOptions = BenchmarkOptions(),
    *,
    fitted: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Return the report: `strict`, `full` and `published_features` (None without `published`).

    Args:
        data: with the vectors of the catalogue, of which `LEFT_OUT` are not used.
        made: see `folds`.
        published: float32[n, k], the features of others for the same rows; trained on the week.
        fitted: called after each model; each fold has two, or three with `published`.
    """
    weeks, histories = [fold.week for fold in made], [fold.history for fold in made]
    ours = data.vectors[:, [place for place, name in enumerate(NAMES) if name not in LEFT_OUT]]
    rounds = options.rounds
    runs = {"strict": (ours, weeks, rounds), "full": (ours, histories, MORE_TREES * rounds)}
    if published is not None:
        runs["published_features"] = (published, weeks, rounds)
    report: dict[str, Any] = {"published_features": None}
    for name, (matrix, parts, trees) in runs.items():
        results = []
        for fold, rows in zip(made, parts, strict=True):
            results.append(_measure(data, matrix, fold, rows, trees, options.threads))
            fitted()
        report[name] = _summary(made, results)
    return report


def _measure(
    data: Dataset,
    matrix: npt.NDArray[np.float32],
    fold: HandbookFold,
    rows: npt.NDArray[np.int64],
    rounds: int,
    threads: int,
) -> dict[str, float]:
    """Fit on `rows` with the labels known when the test week begins, and measure on it."""
    known = data.fraud[rows] & (data.label_time[rows] <= fold.test_ms)
    kept, weight = batch_training.thinned(known, SEED)
    examples = xgboost.QuantileDMatrix(
        matrix[rows[kept]], known[kept], weight=weight, nthread=threads
    )
    settings = parameters.learner(seed=SEED, threads=threads)
    booster = xgboost.train(settings, examples, rounds)
    # Margins: probabilities near 1 are ties in float32, which cost AUC.
    score = booster.inplace_predict(matrix[fold.test], predict_type="margin")
    return fold_metrics(score, data.transactions.card[fold.test], data.fraud[fold.test], fold.day)


def _summary(made: Sequence[HandbookFold], results: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return means, sample standard deviations (0 for one fold) and the folds themselves."""
    values = {name: [result[name] for result in results] for name in METRICS}
    spread = 1 if len(made) > 1 else 0
    return {
        **{name: float(np.mean(column)) for name, column in values.items()},
        "std": {name: float(np.std(column, ddof=spread)) for name, column in values.items()},
        "folds": [
            {"start": fold.start.isoformat(), **result}
            for fold, result in zip(made, results, strict=True)
        ],
    }
