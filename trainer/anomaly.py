"""Training of the isolation forest over the card features. Called by `trainer.batch`.

The model itself and its score are in `scorer.anomaly`. Source: Liu, Ting, Zhou, "Isolation Forest",
ICDM 2008.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest

from schemas.features import ANOMALY_INPUTS
from scorer.anomaly import AnomalyModel


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
