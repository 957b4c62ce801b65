"""Training of the isolation forest over the card features.

The model itself and its score are in `scorer.model.anomaly`. Source: Liu, Ting, Zhou, "Isolation
Forest", ICDM 2008.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest

from schemas.features import ANOMALY_INPUTS
from scorer.model.anomaly import AnomalyModel
from scorer.model.trees import Tree, join


def _average_path(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return c(n), the mean path length of an unsuccessful search among n."""
    n = np.maximum(sizes.astype(np.float64), 3.0)
    wide = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    path: npt.NDArray[np.float64] = np.where(sizes > 2, wide, np.where(sizes == 2, 1.0, 0.0))
    return path


def train(vectors: npt.NDArray[np.float32], *, seed: int, trees: int = 100) -> AnomalyModel:
    """Fit on vectors float32[n, 70], n >= 1; the same seed gives the same arrays.

    A missing value counts as the median, so it goes where the median goes.
    """
    raw = vectors[:, ANOMALY_INPUTS]
    fill = np.zeros(raw.shape[1], np.float32)
    for column in range(raw.shape[1]):
        finite = raw[np.isfinite(raw[:, column]), column]
        fill[column] = np.median(finite) if len(finite) else 0.0
    inputs = np.where(np.isfinite(raw), raw, fill)
    forest = IsolationForest(n_estimators=trees, random_state=seed, n_jobs=1).fit(inputs)
    fitted = [estimator.tree_ for estimator in forest.estimators_]
    joined, place = join([_tree(tree, fill) for tree in fitted])
    length = np.concatenate([_depths(tree) + _average_path(tree.n_node_samples) for tree in fitted])
    normaliser = float(_average_path(np.array([forest.max_samples_], np.int64))[0])
    return AnomalyModel(joined, length[place].astype(np.float32), normaliser)


def _tree(tree: Any, fill: npt.NDArray[np.float32]) -> Tree:
    feature = np.maximum(tree.feature, 0)
    condition = _above(tree.threshold)
    return Tree(
        left=tree.children_left,
        right=tree.children_right,
        feature=feature + ANOMALY_INPUTS.start,
        condition=condition,
        missing_right=fill[feature] >= condition,
    )


def _above(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the least float32 above each threshold: x > threshold is x >= it for float32 x."""
    nearest = threshold.astype(np.float32)
    above: npt.NDArray[np.float32] = np.where(
        nearest > threshold, nearest, np.nextafter(nearest, np.float32(np.inf))
    )
    return above


def _depths(tree: Any) -> npt.NDArray[np.float64]:
    depth = np.zeros(tree.node_count)
    for node in np.flatnonzero(tree.children_left >= 0):  # parents come before children
        depth[[tree.children_left[node], tree.children_right[node]]] = depth[node] + 1.0
    return depth
