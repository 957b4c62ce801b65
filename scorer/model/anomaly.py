"""The anomaly score of a card's behaviour, from an isolation forest. It is input 71 of the model.

`trainer.training.isolation_forest` fits the forest, and the bundle carries it.
Source: Liu, Ting, Zhou, "Isolation Forest", ICDM 2008: score = 2 ** (-mean path length / c(psi)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.features import VECTOR_SIZE
from scorer.model.leaf_masks import Masks, masks_of, row_sums
from scorer.model.trees import Matrix, Trees, number_from, trees_from

MAX_LENGTH: Final = 1e4
"""Longest path and greatest normaliser; trees of 256 rows have 10.24 as their normaliser."""


@dataclass(frozen=True, slots=True)
class AnomalyModel:
    """An isolation forest. `length` is the path length to each node; `normaliser` is c(psi)."""

    trees: Trees
    length: npt.NDArray[np.float32]
    normaliser: float
    masks: Masks = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the masks from the trees."""
        object.__setattr__(self, "masks", masks_of(self.trees))

    def arrays(self) -> dict[str, Any]:
        """Return the arrays of an .npz file that `anomaly_from_arrays` reads back."""
        normaliser = np.array([self.normaliser], np.float64)
        return {**self.trees._asdict(), "length": self.length, "normaliser": normaliser}


def anomaly_from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> AnomalyModel:
    """Rebuild the model from the arrays of `AnomalyModel.arrays`.

    Raises:
        KeyError, ValueError: arrays are missing or do not fit together.
    """
    trees, length = trees_from(arrays, VECTOR_SIZE), arrays["length"]
    normaliser = number_from(arrays, "normaliser")
    if length.dtype != np.float32 or length.shape != trees.child.shape:
        raise ValueError("path lengths do not fit the trees")
    if not ((length >= 0) & (length <= MAX_LENGTH)).all():  # also false for NaN
        raise ValueError(f"a path length is not a number from 0 to {MAX_LENGTH:g}")
    if not 1 / MAX_LENGTH <= normaliser <= MAX_LENGTH:
        raise ValueError(f"the normaliser {normaliser} is not between 1/{MAX_LENGTH:g} and that")
    return AnomalyModel(trees, length, normaliser)


def anomaly_scores(model: AnomalyModel, vectors: Matrix) -> Matrix:
    """Return scores in [0, 1], float32[n], for vectors float32[n, 70 or more] in C order."""
    total = row_sums(model.trees, model.masks, model.length, 0.0, vectors)
    scores: Matrix = np.exp2(total / np.float32(-len(model.trees.roots) * model.normaliser))
    return scores
