"""A gradient-boosted forest as flat arrays, walked by compiled code: the small-batch predictor.

`scorer.model` uses it below about 40 rows, where XGBoost's per-call cost dominates. Splits compare
float32 with float32 and margins add up in float32 in tree order, as XGBoost's own predictor does.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError
from stream_features.engine.compiled import compiled, leaf


class Forest(NamedTuple):
    """All nodes of all trees; children are absolute positions, -1 on a leaf.

    `value` is the split condition of an inner node and the weight of a leaf; `expected` is the mean
    weight of the leaves below a node, by training rows; `base` is the margin (log-odds) in front of
    the first tree, shape (1,).
    """

    roots: npt.NDArray[np.int32]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    missing_left: npt.NDArray[np.bool_]
    feature: npt.NDArray[np.int32]
    value: npt.NDArray[np.float32]
    expected: npt.NDArray[np.float32]
    base: npt.NDArray[np.float32]


def forest_from_json(data: bytes, features: int) -> Forest:
    """Read a `binary:logistic` gbtree model in XGBoost's JSON form.

    Raises:
        ConfigurationError: another objective, booster or number of features, or a categorical
            split, for which this walk would give other scores than XGBoost.
    """
    try:
        learner: dict[str, Any] = json.loads(data)["learner"]
        objective = learner["objective"]["name"]
        booster = learner["gradient_booster"]["name"]
        parameters = learner["learner_model_param"]
        trees = learner["gradient_booster"]["model"]["trees"]
        if objective != "binary:logistic" or booster != "gbtree":
            raise ValueError(f"{objective} by {booster}; binary:logistic by gbtree is needed")
        if int(parameters["num_feature"]) != features:
            raise ValueError(f"{parameters['num_feature']} features, expected {features}")
        if not trees:
            raise ValueError("no trees")
        if any(any(tree["split_type"]) for tree in trees):
            raise ValueError("categorical splits are not supported")
        prior = float(str(parameters["base_score"]).strip("[]"))
        if not 0.0 < prior < 1.0:
            raise ValueError(f"base_score {prior} is not in (0, 1)")
        sizes = [len(tree["left_children"]) for tree in trees]
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int32)
        left = _children(trees, starts, "left_children")
        right = _children(trees, starts, "right_children")
        value = _column(trees, "split_conditions").astype(np.float32)
        cover = _column(trees, "sum_hessian").astype(np.float64)
        forest = Forest(
            roots=starts,
            left=left,
            right=right,
            missing_left=_column(trees, "default_left").astype(np.bool_),
            feature=_column(trees, "split_indices").astype(np.int32),
            value=value,
            expected=np.zeros(len(value), np.float32),
            base=np.array([math.log(prior / (1.0 - prior))], np.float32),
        )
        check_forest(forest, features)
        forest.expected[:] = _expected(left, right, value.astype(np.float64), cover)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigurationError(f"not a model that can be served: {error}") from error
    return forest


def _column(trees: list[dict[str, Any]], name: str) -> npt.NDArray[Any]:
    return np.concatenate([np.asarray(tree[name]) for tree in trees])


def _children(
    trees: list[dict[str, Any]], starts: npt.NDArray[np.int32], name: str
) -> npt.NDArray[np.int32]:
    parts = []
    for start, tree in zip(starts, trees, strict=True):
        local = np.asarray(tree[name], np.int32)
        parts.append(np.where(local < 0, np.int32(-1), local + start))
    return np.concatenate(parts).astype(np.int32)


def _expected(
    left: npt.NDArray[np.int32],
    right: npt.NDArray[np.int32],
    value: npt.NDArray[np.float64],
    cover: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return the mean leaf weight below each node, weighted by cover; children follow parents."""
    mean = value.copy()
    for node in range(len(mean) - 1, -1, -1):
        if left[node] >= 0:
            a, b = left[node], right[node]
            total = cover[a] + cover[b]
            share = cover[a] / total if total > 0 else 0.5
            mean[node] = share * mean[a] + (1.0 - share) * mean[b]
    return mean


def check_forest(forest: Forest, features: int) -> None:
    """Refuse indices that would make the unchecked walk read outside its arrays or loop.

    Raises:
        ValueError: says what is wrong.
    """
    nodes = len(forest.left)
    for name, column in forest._asdict().items():
        if column.dtype != _DTYPES[name] or column.ndim != 1:
            raise ValueError(f"{name} is {column.dtype}, not {_DTYPES[name]}")
    if any(len(column) != nodes for column in forest[1:7]) or len(forest.base) != 1:
        raise ValueError("columns of a tree differ in length")
    roots = forest.roots
    if len(roots) == 0 or roots[0] != 0 or np.any(np.diff(roots) <= 0) or roots[-1] >= nodes:
        raise ValueError("roots are not ascending places of nodes")
    sizes = np.diff(np.append(roots, nodes))
    own = np.arange(nodes)
    stop = np.repeat(roots + sizes, sizes)
    inner = forest.left >= 0
    if np.any(inner != (forest.right >= 0)):
        raise ValueError("a node with one child")
    for child in (forest.left, forest.right):
        if np.any(inner & ((child <= own) | (child >= stop))):
            raise ValueError("a child that is not below its parent in the same tree")
    if np.any(inner & ((forest.feature < 0) | (forest.feature >= features))):
        raise ValueError("a split on an unknown feature")


_DTYPES: Final = {
    "roots": np.int32, "left": np.int32, "right": np.int32, "missing_left": np.bool_,
    "feature": np.int32, "value": np.float32, "expected": np.float32, "base": np.float32,
}  # fmt: skip


def margins(forest: Forest, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the log-odds of each row of `matrix` (float32, n × features; NaN is missing)."""
    result = np.empty(len(matrix), np.float32)
    _margins(*forest, matrix, result)
    return result


def probabilities(forest: Forest, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the uncalibrated probability of each row, as XGBoost's `predict` does."""
    result: npt.NDArray[np.float32] = np.float32(1.0) / (
        np.float32(1.0) + np.exp(-margins(forest, matrix))
    )
    return result


def contributions(forest: Forest, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return what each feature adds to the log-odds of each row, float64[n, features].

    The steps of the expected value along the path of each tree (Saabas, "Interpreting random
    forests", 2014); what XGBoost calls approximate contributions.
    """
    result = np.zeros(matrix.shape, np.float64)
    _contributions(*forest, matrix, result)
    return result


@compiled
def _margins(roots, left, right, missing_left, feature, value, expected, base, matrix, out):  # type: ignore[no-untyped-def]
    rows = matrix.shape[0]
    out[:] = base[0]
    for tree in range(len(roots)):  # outside, so that a tree is in the cache for all rows
        for row in range(rows):
            node = roots[tree]
            while left[node] >= 0:
                node = _step(left, right, missing_left, value, node, matrix[row, feature[node]])
            out[row] += value[node]


@compiled
def _contributions(roots, left, right, missing_left, feature, value, expected, base, matrix, out):  # type: ignore[no-untyped-def]
    for row in range(matrix.shape[0]):
        for tree in range(len(roots)):
            node = roots[tree]
            while left[node] >= 0:
                column = feature[node]
                child = _step(left, right, missing_left, value, node, matrix[row, column])
                out[row, column] += expected[child] - expected[node]
                node = child


@leaf
def _step(left, right, missing_left, value, node, x):  # type: ignore[no-untyped-def]
    """Return the child that XGBoost goes to: left if x < condition, as told if x is missing."""
    if np.isnan(x):
        return left[node] if missing_left[node] else right[node]
    return left[node] if x < value[node] else right[node]
