"""Bootstrap of ranking metrics: intervals, and the paired difference of two models. Pure.

Frauds and genuine transactions are drawn separately, with replacement (stratified bootstrap; Efron
and Tibshirani, "An Introduction to the Bootstrap", 1993). Everything is sorted once; a replicate is
then counts, one cumulative sum and gathers at the frauds, so 200 of them on 200,000 rows take
about a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
REPLICATES: Final = 200
TAIL: Final = 0.025
"""Share left out at each side: 95% intervals."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def auc(positive: npt.NDArray[Any], negative: npt.NDArray[Any]) -> float:
    """Return the chance that a positive exceeds a negative, ties counted half; .5 if one is empty.

    Source: Mann and Whitney (1947).

    >>> auc(np.array([2, 3], np.float32), np.array([1, 2], np.float32))
    0.875
    """
    if len(positive) == 0 or len(negative) == 0:
        return 0.5
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    upto = np.searchsorted(ordered, positive, "right")
    return float((below + upto).mean() / 2 / len(negative))


@dataclass(frozen=True, slots=True)
class _Ranking:
    """One model's order of the rows: what a replicate needs to know of its scores.

    `order` sorts the genuine ascending, `below` and `upto` count for each fraud (ascending) the
    genuine with a lower, and with a lower or equal, score.
    """

    order: npt.NDArray[np.int64]
    fraud_order: npt.NDArray[np.int64]
    below: npt.NDArray[np.int64]
    upto: npt.NDArray[np.int64]
    first_equal: npt.NDArray[np.int64]

    @classmethod
    def of(cls, score: Floats, fraud: npt.NDArray[np.bool_]) -> _Ranking:
        genuine, frauds = score[~fraud], score[fraud]
        order, fraud_order = np.argsort(genuine), np.argsort(frauds)
        genuine, frauds = genuine[order], frauds[fraud_order]
        return cls(
            order,
            fraud_order,
            np.searchsorted(genuine, frauds, "left"),
            np.searchsorted(genuine, frauds, "right"),
            np.searchsorted(frauds, frauds, "left"),
        )

    def auc(self, frauds: npt.NDArray[np.int64], genuine: npt.NDArray[np.int64]) -> float:
        """Return the AUC when each row counts so many times."""
        seen = self._seen(genuine)
        weight = frauds[self.fraud_order]
        halves = weight @ (seen[self.below] + seen[self.upto])
        return float(halves / (2.0 * weight.sum() * seen[-1]))

    def average_precision(
        self, frauds: npt.NDArray[np.int64], genuine: npt.NDArray[np.int64]
    ) -> float:
        """Return the average precision; ties are taken together, as scikit-learn does."""
        seen = self._seen(genuine)
        weight = frauds[self.fraud_order]
        before = np.concatenate([[0], np.cumsum(weight)])
        true = before[-1] - before[self.first_equal]
        alerted = true + seen[-1] - seen[self.below]
        return float(weight @ (true / np.maximum(alerted, 1)) / weight.sum())

    def _seen(self, genuine: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        seen = np.zeros(len(genuine) + 1, np.int64)
        np.cumsum(genuine[self.order], out=seen[1:])
        return seen


def _draws(
    frauds: int, genuine: int, replicates: int, seed: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield how often each fraud and each genuine row is drawn; first all of them once."""
    yield np.ones(frauds, np.int64), np.ones(genuine, np.int64)
    draw = np.random.default_rng(seed)
    for _ in range(replicates):
        yield tuple(  # type: ignore[misc]
            np.bincount(draw.integers(0, rows, rows, dtype=np.int32), minlength=rows)
            for rows in (frauds, genuine)
        )


def _interval(values: list[float]) -> Interval:
    low, high = np.quantile(values[1:], [TAIL, 1.0 - TAIL])
    return Interval(values[0], float(low), float(high))


def intervals(
    probability: Floats,
    score: Floats,
    fraud: npt.NDArray[np.bool_],
    limits: dict[str, float],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return AUC and average precision of `probability`, precision and recall of `score` > limit.

    All arrays have shape (n,), with both classes. A precision without alerts is 0.
    """
    ranking = _Ranking.of(probability, fraud)
    hits = {name: (score > limit)[fraud].astype(np.int64) for name, limit in limits.items()}
    misses = {name: (score > limit)[~fraud].astype(np.int64) for name, limit in limits.items()}
    found: dict[str, list[float]] = {"auc": [], "average_precision": []}
    for name in limits:
        found |= {f"{name}_precision": [], f"{name}_recall": []}
    for frauds, genuine in _draws(int(fraud.sum()), int((~fraud).sum()), replicates, seed):
        found["auc"].append(ranking.auc(frauds, genuine))
        found["average_precision"].append(ranking.average_precision(frauds, genuine))
        for name in limits:
            true, false = int(frauds @ hits[name]), int(genuine @ misses[name])
            found[f"{name}_precision"].append(true / max(true + false, 1))
            found[f"{name}_recall"].append(true / len(frauds))
    return {name: _interval(values) for name, values in found.items()}


def auc_difference(
    candidate: Floats,
    champion: Floats,
    fraud: npt.NDArray[np.bool_],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """Return AUC(candidate) − AUC(champion) on the same rows, drawn together (paired)."""
    one, other = _Ranking.of(candidate, fraud), _Ranking.of(champion, fraud)
    draws = _draws(int(fraud.sum()), int((~fraud).sum()), replicates, seed)
    return _interval(
        [one.auc(frauds, genuine) - other.auc(frauds, genuine) for frauds, genuine in draws]
    )
