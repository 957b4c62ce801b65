"""The boosted forest: XGBoost's model as trees for the compiled walk of `scorer.model.trees`.

The walk is faster than XGBoost's own predictor at every batch size (docs/decisions), so the scorer
uses nothing else. Splits compare float32 with float32 and margins add up in float32 in tree order,
as XGBoost does it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError
from scorer.model.leaf_masks import Masks, masks_of, row_sums
from scorer.model.trees import Matrix, Tree, Trees, join, steps, trees_from


@dataclass(frozen=True, slots=True)
class Forest:
    """`expected` is the mean weight of the leaves below a node by training rows: a leaf's is its
    weight. `base` is the margin (log-odds) in front of the first tree."""

    trees: Trees
    expected: npt.NDArray[np.float32]
    base: float
    masks: Masks = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the masks."""
        object.__setattr__(self, "masks", masks_of(self.trees))

    def arrays(self) -> dict[str, Any]:
        """Return what `forest_from_arrays` takes, for an .npz file."""
        base = np.array([self.base], np.float64)
        return {**self.trees._asdict(), "expected": self.expected, "base": base}


def forest_from_arrays(arrays: Mapping[str, npt.NDArray[Any]], features: int) -> Forest:
    """Return the forest that `Forest.arrays` stored.

    Raises:
        KeyError, ValueError: arrays are missing or do not fit together.
    """
    trees, expected = trees_from(arrays, features), arrays["expected"]
    if expected.dtype != np.float32 or expected.shape != trees.child.shape:
        raise ValueError("expected values do not fit the trees")
    return Forest(trees, expected, float(arrays["base"][0]))


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
        stored: list[dict[str, Any]] = learner["gradient_booster"]["model"]["trees"]
        if objective != "binary:logistic" or booster != "gbtree":
            raise ValueError(f"{objective} by {booster}; binary:logistic by gbtree is needed")
        if int(parameters["num_feature"]) != features:
            raise ValueError(f"{parameters['num_feature']} features, expected {features}")
        if not stored:
            raise ValueError("no trees")
        if any(any(tree["split_type"]) for tree in stored):
            raise ValueError("categorical splits are not supported")
        prior = float(str(parameters["base_score"]).strip("[]"))
        if not 0.0 < prior < 1.0:
            raise ValueError(f"base_score {prior} is not in (0, 1)")
        trees = [_tree(tree) for tree in stored]
        expected = [
            _expected(tree, one["sum_hessian"]) for tree, one in zip(trees, stored, strict=True)
        ]
        joined, place = join(trees)
        forest = Forest(
            trees=trees_from(joined._asdict(), features),
            expected=np.concatenate(expected)[place].astype(np.float32),
            base=math.log(prior / (1.0 - prior)),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigurationError(f"not a model that can be served: {error}") from error
    return forest


def _tree(stored: dict[str, Any]) -> Tree:
    tree = Tree(
        left=np.asarray(stored["left_children"], np.int64),
        right=np.asarray(stored["right_children"], np.int64),
        feature=np.asarray(stored["split_indices"], np.int64),
        condition=np.asarray(stored["split_conditions"], np.float32),
        missing_right=~np.asarray(stored["default_left"], np.bool_),
    )
    own = np.arange(len(tree.left))
    inner = tree.left >= 0
    if any(len(column) != len(own) for column in tree):
        raise ValueError("columns of a tree differ in length")
    if np.any(inner != (tree.right >= 0)):
        raise ValueError("a node with one child")
    for child in (tree.left, tree.right):
        if np.any(inner & ((child <= own) | (child >= len(own)))):
            raise ValueError("a child that is not below its parent in the same tree")
    children = np.concatenate([tree.left[inner], tree.right[inner]])
    if len(np.unique(children)) != len(children):
        raise ValueError("a node with two parents")
    return tree


def _expected(tree: Tree, cover: list[float]) -> npt.NDArray[np.float64]:
    """Return the mean leaf weight below each node, weighted by cover; children follow parents."""
    mean = tree.condition.astype(np.float64)  # XGBoost keeps a leaf's weight there
    for node in np.flatnonzero(tree.left >= 0)[::-1].tolist():
        a, b = int(tree.left[node]), int(tree.right[node])
        total = cover[a] + cover[b]
        share = cover[a] / total if total > 0 else 0.5
        mean[node] = share * mean[a] + (1.0 - share) * mean[b]
    return mean


def probabilities(forest: Forest, matrix: Matrix) -> Matrix:
    """Return the uncalibrated probability of each row, float32[n], as XGBoost's `predict` does.

    `matrix` is float32 (n, features), C order; NaN is missing.
    """
    margins = row_sums(forest.trees, forest.masks, forest.expected, forest.base, matrix)
    result: Matrix = np.float32(1.0) / (np.float32(1.0) + np.exp(-margins))
    return result


def contributions(forest: Forest, matrix: Matrix) -> npt.NDArray[np.float64]:
    """Return what each feature adds to the log-odds of each row, float64[n, features].

    The steps of the expected value along the path of each tree (Saabas, "Interpreting random
    forests", 2014); what XGBoost calls approximate contributions.
    """
    return steps(forest.trees, forest.expected, matrix)
