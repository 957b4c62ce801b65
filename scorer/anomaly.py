"""Anomaly score of a card's behaviour by an isolation forest, as plain arrays and compiled code.

The trainer fits it (`trainer.anomaly`), the bundle carries it, `scorer.model` computes feature 71.
Source: Liu, Ting, Zhou, "Isolation Forest", ICDM 2008: score = 2 ** (-mean path length / c(psi)).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.features import ANOMALY_INPUTS


class AnomalyModel(NamedTuple):
    """All trees one after the other; a leaf has left == -1 and its path length in `length`.

    `fill` float32[38] replaces what is missing; a row goes left when value <= threshold.
    `normaliser` float64[1] is c(psi).
    """

    fill: npt.NDArray[np.float32]
    root: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    length: npt.NDArray[np.float64]
    normaliser: npt.NDArray[np.float64]


def anomaly_scores(
    model: AnomalyModel, vectors: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return scores in [0, 1], float32[n], of vectors float32[n, 70 or more]."""
    scores: npt.NDArray[np.float32] = _scores(*model, vectors, ANOMALY_INPUTS.start)
    return scores


@njit(cache=True, nogil=True)
def _scores(fill, root, feature, threshold, left, right, length, normaliser, vectors, first):  # type: ignore[no-untyped-def]
    rows = vectors.shape[0]
    out = np.empty(rows, np.float32)
    inputs = np.empty(len(fill), np.float64)
    for row in range(rows):
        for column in range(len(fill)):
            value = vectors[row, first + column]
            inputs[column] = value if np.isfinite(value) else fill[column]
        total = 0.0
        for tree in range(len(root)):
            node = root[tree]
            while left[node] >= 0:
                node = left[node] if inputs[feature[node]] <= threshold[node] else right[node]
            total += length[node]
        out[row] = 2.0 ** (-total / len(root) / normaliser[0])
    return out
