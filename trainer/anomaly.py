"""Training of the isolation forest over the card features. Called by `trainer.batch`.

The model itself and its score are in `scorer.anomaly`. Source: Liu, Ting, Zhou, "Isolation Forest",
ICDM 2008.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
    roots: list[int] = []
    parts: list[_Tree] = []
    for tree in (estimator.tree_ for estimator in forest.estimators_):
        roots.append(sum(len(part.child) for part in parts))
        parts.append(_siblings_together(tree, roots[-1]))
    feature, threshold, child, length = (np.concatenate(p) for p in zip(*parts, strict=True))
    return AnomalyModel(
        fill,
        np.array(roots, np.int32),
        np.array([max(estimator.tree_.max_depth for estimator in forest.estimators_)], np.int32),
        feature,
        threshold,
        child,
        length,
        _average_path(np.array([forest.max_samples_], np.int64)),
    )


class _Tree(NamedTuple):
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    child: npt.NDArray[np.int32]
    length: npt.NDArray[np.float32]


def _siblings_together(tree: Any, base: int) -> _Tree:
    """Renumber a tree of scikit-learn breadth first, from `base` on."""
    left, right = tree.children_left.tolist(), tree.children_right.tolist()
    order, depths = [0], [0]
    child = []
    for place, node in enumerate(order):  # grows while it is read
        if left[node] < 0:
            child.append(base + place)
            continue
        child.append(base + len(order))
        order += [left[node], right[node]]
        depths += [depths[place] + 1] * 2
    leaf = tree.children_left[order] < 0
    length = np.array(depths) + _average_path(tree.n_node_samples[order])
    return _Tree(
        np.where(leaf, 0, tree.feature[order]).astype(np.int32),
        np.where(leaf, np.inf, _below(tree.threshold[order])).astype(np.float32),
        np.array(child, np.int32),
        length.astype(np.float32),
    )


def _below(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the greatest float32 up to each threshold: float32 values split the same by it."""
    nearest = threshold.astype(np.float32)
    lower: npt.NDArray[np.float32] = np.where(
        nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest
    )
    return lower
