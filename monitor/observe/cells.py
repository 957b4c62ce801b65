"""Summed decisions of a model over a segment and some hours, and their figures. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from monitor.observe.join_kernel import (
    BINS,
    CELL_NUMBERS,
    FRAUD,
    GENUINE,
    LABELS_OF,
    NO_LABEL,
    VALUE,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
MAX_LOG_ODDS: Final = 10.0
EDGES: Final[Floats] = np.linspace(-MAX_LOG_ODDS, MAX_LOG_ODDS, BINS + 1)[1:-1]
"""Inner edges of the score bins, in log-odds, for resolution near 0 and near 1."""


def score_bins(score: Floats) -> npt.NDArray[np.uint8]:
    """Return the bin of each score, 255 for NaN.

    >>> score_bins(np.array([0.0, 0.5, 1.0, np.nan])).tolist()
    [0, 31, 63, 255]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log(score / (1.0 - score))
    bins = np.searchsorted(EDGES, odds, side="left").astype(np.uint8)
    bins[np.isnan(score)] = 255
    return bins


def auc(genuine: npt.NDArray[np.number], fraud: npt.NDArray[np.number]) -> float:
    """Return the ROC AUC of two score histograms, counting ties half; NaN if one is empty.

    >>> auc(np.array([3, 1]), np.array([0, 2]))
    0.875
    """
    total = float(genuine.sum()) * float(fraud.sum())
    if total == 0:
        return float("nan")
    below = np.cumsum(genuine) - genuine
    return float(((below + genuine / 2.0) * fraud).sum() / total)


@dataclass(frozen=True, slots=True)
class Cell:
    """Sums over decisions: `numbers` int64[15] and score histograms by label int64[4, BINS].

    In a `mature` cell the label delay has passed, so decisions without a label count as genuine.
    Decisions whose record was dropped earlier count as neither genuine nor fraud.
    """

    numbers: Ints
    histograms: Ints
    mature: bool = False

    @classmethod
    def empty(cls) -> Cell:
        """Return a cell without decisions."""
        return cls(np.zeros(CELL_NUMBERS, np.int64), np.zeros((LABELS_OF, BINS), np.int64))

    @property
    def by_action(self) -> Ints:
        """Decisions by action and label, int64[3, 4]; columns 0 and 3 are without a label."""
        return self.numbers[:VALUE].reshape(3, LABELS_OF)

    @property
    def decided(self) -> int:
        """Number of decisions."""
        return int(self.numbers[:VALUE].sum())

    @property
    def labelled(self) -> int:
        """Number of decisions with a label."""
        return int(self.by_action[:, [GENUINE, FRAUD]].sum())

    def fraud(self, *actions: int) -> int:
        """Return the number of known frauds with one of these actions."""
        return int(self.by_action[list(actions), FRAUD].sum())

    def genuine(self, *actions: int) -> int:
        """Return the number of genuine decisions with one of these actions."""
        known = self.by_action[list(actions)]
        return int(known[:, GENUINE].sum() + self.mature * known[:, NO_LABEL].sum())

    def precision(self, *actions: int) -> float:
        """Return the share of frauds among these actions; NaN without any judged decision."""
        return _ratio(self.fraud(*actions), self.fraud(*actions) + self.genuine(*actions))

    def recall(self, *actions: int) -> float:
        """Return the share of frauds with one of these actions; NaN without frauds."""
        return _ratio(self.fraud(*actions), self.fraud(0, 1, 2))

    def rate(self, *actions: int) -> float:
        """Return the share of decisions with one of these actions."""
        return _ratio(int(self.by_action[list(actions)].sum()), self.decided)

    @property
    def auc(self) -> float:
        """Area under the ROC curve of the score; NaN without both classes."""
        genuine = self.histograms[GENUINE] + self.mature * self.histograms[NO_LABEL]
        return auc(genuine, self.histograms[FRAUD])

    @property
    def coverage(self) -> float:
        """Share of decisions with a label."""
        return _ratio(self.labelled, self.decided)

    def figures(self) -> dict[str, float]:
        """Return every figure by name; money is in minor units of the base currency."""
        return {
            "decisions": float(self.decided),
            "labelled": float(self.labelled),
            "frauds": float(self.fraud(0, 1, 2)),
            "block_precision": self.precision(2),
            "block_recall": self.recall(2),
            "alert_precision": self.precision(1, 2),
            "alert_recall": self.recall(1, 2),
            "auc": self.auc,
            "block_rate": self.rate(2),
            "alert_rate": self.rate(1, 2),
            "blocked_value": float(self.numbers[VALUE]),
            "blocked_fraud_value": float(self.numbers[VALUE + 1]),
            "missed_fraud_value": float(self.numbers[VALUE + 2]),
            "coverage": self.coverage,
        }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
