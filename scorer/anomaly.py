"""Anomaly score of a card's behaviour by an isolation forest, as plain arrays and compiled code.

The trainer fits it (`trainer.anomaly`), the bundle carries it, `scorer.model` computes feature 71.
Source: Liu, Ting, Zhou, "Isolation Forest", ICDM 2008: score = 2 ** (-mean path length / c(psi)).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.features import ANOMALY_INPUTS
from stream_features.engine.compiled import compiled

BLOCK: Final = 64
"""Rows that walk through a tree together: their inputs and one tree fit the first-level cache."""


class AnomalyModel(NamedTuple):
    """All trees one after the other; the children of a node stand side by side, `child` first.

    A row goes to the second one when value > threshold. A leaf is its own child with an infinite
    threshold, so that every row takes `depth` (int32[1]) steps, without a branch; its path length
    is in `length`. `fill` float32[38] replaces what is missing; `normaliser` float64[1] is c(psi).
    """

    fill: npt.NDArray[np.float32]
    root: npt.NDArray[np.int32]
    depth: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    child: npt.NDArray[np.int32]
    length: npt.NDArray[np.float32]
    normaliser: npt.NDArray[np.float64]


def anomaly_scores(
    model: AnomalyModel, vectors: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return scores in [0, 1], float32[n], of vectors float32[n, 70 or more]."""
    rows = len(vectors)
    scores = np.empty(rows, np.float32)
    inputs = np.empty((BLOCK, len(model.fill)), np.float32)
    total = np.empty(BLOCK, np.float64)
    _scores(*model, vectors, ANOMALY_INPUTS.start, inputs, total, scores)
    return scores


def check_anomaly(model: AnomalyModel) -> None:
    """Refuse arrays that would make the unchecked walk read outside them.

    Raises:
        ValueError: says what is wrong.
    """
    width = ANOMALY_INPUTS.stop - ANOMALY_INPUTS.start
    for name, column in model._asdict().items():
        expected = _DTYPES[name]
        if column.dtype != expected or column.ndim != 1:
            raise ValueError(f"anomaly model: {name} is {column.dtype}, not {expected}")
    nodes = len(model.child)
    columns = (model.feature, model.threshold, model.length)
    if any(len(column) != nodes for column in columns) or len(model.fill) != width:
        raise ValueError("anomaly model: columns differ in length")
    if len(model.depth) != 1 or len(model.normaliser) != 1 or not model.normaliser[0] > 0:
        raise ValueError("anomaly model: depth or normaliser is missing")
    if len(model.root) == 0 or model.root.min() < 0 or model.root.max() >= nodes:
        raise ValueError("anomaly model: a root is no node")
    own = np.arange(nodes)
    inner = model.child != own
    if np.any(inner & ((model.child < own) | (model.child + 1 >= nodes))):
        raise ValueError("anomaly model: a child is not behind its parent")
    if np.any(~inner & (model.threshold != np.inf)):
        raise ValueError("anomaly model: a leaf with a threshold")
    if np.any((model.feature < 0) | (model.feature >= width)):
        raise ValueError("anomaly model: a split on an unknown feature")


_DTYPES: Final = {
    "fill": np.float32, "root": np.int32, "depth": np.int32, "feature": np.int32,
    "threshold": np.float32, "child": np.int32, "length": np.float32, "normaliser": np.float64,
}  # fmt: skip


@compiled
def _scores(  # type: ignore[no-untyped-def]
    fill, root, depth, feature, threshold, child, length, normaliser, vectors, first, inputs,
    total, scores,
):  # fmt: skip
    width = len(fill)
    for begin in range(0, len(scores), len(total)):
        rows = min(len(total), len(scores) - begin)
        for row in range(rows):
            total[row] = 0.0
            for column in range(width):
                value = vectors[begin + row, first + column]
                inputs[row, column] = value if np.isfinite(value) else fill[column]
        for tree in range(len(root)):
            for row in range(rows):
                node = root[tree]
                for _ in range(depth[0]):
                    node = child[node] + (inputs[row, feature[node]] > threshold[node])
                total[row] += length[node]
        for row in range(rows):
            scores[begin + row] = 2.0 ** (-total[row] / len(root) / normaliser[0])
