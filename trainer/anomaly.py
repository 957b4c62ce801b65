"""Isolation forest over the card features, as plain arrays. Trained by `trainer.batch`.

Liu, Ting, Zhou, "Isolation Forest", ICDM 2008: score = 2 ** (-mean path length / c(psi)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest

from schemas.features import ANOMALY_INPUTS


@dataclass(frozen=True, slots=True)
class AnomalyModel:
    """All trees one after the other; a leaf has left == -1 and its path length in `length`.

    `fill` float32[38] replaces NaN; a row goes left when value <= threshold.
    """

    fill: npt.NDArray[np.float32]
    root: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    length: npt.NDArray[np.float64]
    normaliser: npt.NDArray[np.float64]

    def arrays(self) -> dict[str, Any]:
        """Return what is stored in the bundle, by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def score(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the anomaly score in [0, 1], float32[n], of vectors float32[n, 70]."""
        raw = vectors[:, ANOMALY_INPUTS]
        inputs = np.where(np.isfinite(raw), raw, self.fill)
        rows = np.arange(len(inputs))
        total = np.zeros(len(inputs))
        for root in self.root:
            node = np.full(len(inputs), root, np.int32)
            while True:
                inner = self.left[node] >= 0
                if not inner.any():
                    break
                low = inputs[rows, self.feature[node]] <= self.threshold[node]
                step = np.where(low, self.left[node], self.right[node])
                node = np.where(inner, step, node)
            total += self.length[node]
        mean = total / len(self.root)
        score: npt.NDArray[np.float32] = np.exp2(-mean / self.normaliser[0]).astype(np.float32)
        return score


def _average_path(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return c(n), the mean path length of an unsuccessful search among n."""
    n = np.maximum(sizes.astype(np.float64), 3.0)
    wide = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    path: npt.NDArray[np.float64] = np.where(sizes > 2, wide, np.where(sizes == 2, 1.0, 0.0))
    return path


def train(vectors: npt.NDArray[np.float32], *, seed: int, trees: int = 100) -> AnomalyModel:
    """Fit on vectors float32[n, 70], n >= 1; the same seed gives the same arrays."""
    raw = vectors[:, ANOMALY_INPUTS]
    fill = np.zeros(raw.shape[1], np.float32)
    for column in range(raw.shape[1]):
        finite = raw[np.isfinite(raw[:, column]), column]
        fill[column] = np.median(finite) if len(finite) else 0.0
    inputs = np.where(np.isfinite(raw), raw, fill)
    forest = IsolationForest(n_estimators=trees, random_state=seed, n_jobs=1).fit(inputs)
    parts: list[tuple[npt.NDArray[np.generic], ...]] = []
    roots, base = [], 0
    for tree in (estimator.tree_ for estimator in forest.estimators_):
        roots.append(base)
        left = np.where(tree.children_left < 0, -1, tree.children_left + base)
        right = np.where(tree.children_right < 0, -1, tree.children_right + base)
        depth = np.zeros(tree.node_count)
        for node in np.flatnonzero(tree.children_left >= 0):  # parents come before children
            depth[[tree.children_left[node], tree.children_right[node]]] = depth[node] + 1.0
        length = depth + _average_path(tree.n_node_samples)
        parts.append((np.maximum(tree.feature, 0), tree.threshold, left, right, length))
        base += tree.node_count
    feature, threshold, lefts, rights, lengths = (
        np.concatenate(p) for p in zip(*parts, strict=True)
    )
    return AnomalyModel(
        fill,
        np.array(roots, np.int32),
        feature.astype(np.int32),
        threshold.astype(np.float64),
        lefts.astype(np.int32),
        rights.astype(np.int32),
        lengths.astype(np.float64),
        _average_path(np.array([forest.max_samples_], np.int64)),
    )
