"""The boosted forest: an XGBoost model as flat trees for the compiled walk of `scorer.model.trees`.

The walk is faster than XGBoost's own predictor at every batch size (docs/decisions), so the scorer
does not need XGBoost. Splits compare float32 with float32, and margins add up in float32 in tree
order, exactly as in XGBoost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError
from scorer.model.leaf_masks import Masks, masks_of, row_sums
from scorer.model.trees import Matrix, Tree, Trees, join, number_from, steps, trees_from

MAX_MARGIN: Final = 1e6
"""Largest log-odds of a leaf; sums of as many leaves as are served stay far from infinity."""


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees with the values that a score and its explanation add up.

    `expected` holds for each node the mean weight of the leaves below it, weighted by training
    rows; for a leaf this is its own weight. `base` is the margin (log-odds) before the first tree.
    """

    trees: Trees
    expected: npt.NDArray[np.float32]
    base: float
    masks: Masks = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the masks from the trees."""
        object.__setattr__(self, "masks", masks_of(self.trees))

    def arrays(self) -> dict[str, Any]:
        """Return the arrays of an .npz file that `forest_from_arrays` reads back."""
        base = np.array([self.base], np.float64)
        return {**self.trees._asdict(), "expected": self.expected, "base": base}


def forest_from_arrays(arrays: Mapping[str, npt.NDArray[Any]], features: int) -> Forest:
    """Rebuild the forest from the arrays of `Forest.arrays`.

    Raises:
        KeyError, ValueError: arrays are missing or do not fit together.
    """
    trees, expected = trees_from(arrays, features), arrays["expected"]
    if expected.dtype != np.float32 or expected.shape != trees.child.shape:
        raise ValueError("expected values do not fit the trees")
    if not (np.abs(expected) <= MAX_MARGIN).all():  # also false for NaN
        raise ValueError(f"an expected value is not a number up to {MAX_MARGIN:g}")
    base = number_from(arrays, "base")
    if abs(base) > MAX_MARGIN:
        raise ValueError(f"the base {base} is not a number up to {MAX_MARGIN:g}")
    return Forest(trees, expected, base)


def forest_from_json(data: bytes, features: int) -> Forest:
    """Read a `binary:logistic` gbtree model in XGBoost's JSON form.

    Raises:
        ConfigurationError: the objective, booster or number of features differs, or a split is
            categorical; the walk's scores would differ from XGBoost's.
    """
    try:
        learner: dict[str, Any] = json.loads(data)["learner"]
        objective = learner["objective"]["name"]
        booster = learner["gradient_booster"]["name"]
        parameters = learner["learner_model_param"]
        stored: list[dict[str, Any]] = learner["gradient_booster"]["model"]["trees"]
        if objective != "binary:logistic" or booster != "gbtree":
            raise ValueError(f"{objective} by {booster}; it must be binary:logistic by gbtree")
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
        raise ConfigurationError(f"this model cannot be served: {error}") from error
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
        raise ValueError("the columns of a tree differ in length")
    if np.any(inner != (tree.right >= 0)):
        raise ValueError("a node has only one child")
    for child in (tree.left, tree.right):
        if np.any(inner & ((child <= own) | (child >= len(own)))):
            raise ValueError("a child does not follow its parent in the same tree")
    children = np.concatenate([tree.left[inner], tree.right[inner]])
    if len(np.unique(children)) != len(children):
        raise ValueError("a node has two parents")
    return tree


def _expected(tree: Tree, cover: list[float]) -> npt.NDArray[np.float64]:
    """Return the mean leaf weight below each node, weighted by cover.

    Children come after their parents, so one pass from the end is enough.
    """
    mean = tree.condition.astype(np.float64)  # XGBoost stores a leaf's weight here
    for node in np.flatnonzero(tree.left >= 0)[::-1].tolist():
        a, b = int(tree.left[node]), int(tree.right[node])
        total = cover[a] + cover[b]
        share = cover[a] / total if total > 0 else 0.5
        mean[node] = share * mean[a] + (1.0 - share) * mean[b]
    return mean


def probabilities(forest: Forest, matrix: Matrix) -> Matrix:
    """Return each row's uncalibrated probability, float32[n], equal to XGBoost's `predict`.

    `matrix` is float32[n, features] in C order; NaN means missing.
    """
    margins = row_sums(forest.trees, forest.masks, forest.expected, forest.base, matrix)
    result: Matrix = np.float32(1.0) / (np.float32(1.0) + np.exp(-margins))
    return result


def contributions(forest: Forest, matrix: Matrix) -> npt.NDArray[np.float64]:
    """Return each feature's contribution to the log-odds of each row, float64[n, features].

    These are the changes of the expected value along the row's path through each tree (Saabas,
    "Interpreting random forests", 2014), XGBoost's "approximate contributions".
    """
    return steps(forest.trees, forest.expected, matrix)
