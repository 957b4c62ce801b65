"""Anomaly score of a card's behaviour by an isolation forest, walked by `scorer.model.trees`.

`trainer.training.isolation_forest` fits it, the bundle carries it: it is feature 71.
Source: Liu, Ting, Zhou, "Isolation Forest", ICDM 2008: score = 2 ** (-mean path length / c(psi)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.features import VECTOR_SIZE
from scorer.model.leaf_masks import Masks, masks_of, row_sums
from scorer.model.trees import Matrix, Trees, trees_from


@dataclass(frozen=True, slots=True)
class AnomalyModel:
    """`length` is the path length of a row that ends at a node; `normaliser` is c(psi)."""

    trees: Trees
    length: npt.NDArray[np.float32]
    normaliser: float
    masks: Masks = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the masks."""
        object.__setattr__(self, "masks", masks_of(self.trees))

    def arrays(self) -> dict[str, Any]:
        """Return what `anomaly_from_arrays` takes, for an .npz file."""
        normaliser = np.array([self.normaliser], np.float64)
        return {**self.trees._asdict(), "length": self.length, "normaliser": normaliser}


def anomaly_from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> AnomalyModel:
    """Return the model that `AnomalyModel.arrays` stored.

    Raises:
        KeyError, ValueError: arrays are missing or do not fit together.
    """
    trees, length = trees_from(arrays, VECTOR_SIZE), arrays["length"]
    normaliser = float(arrays["normaliser"][0])
    if length.dtype != np.float32 or length.shape != trees.child.shape or not normaliser > 0:
        raise ValueError("path lengths do not fit the trees")
    return AnomalyModel(trees, length, normaliser)


def anomaly_scores(model: AnomalyModel, vectors: Matrix) -> Matrix:
    """Return scores in [0, 1], float32[n], of vectors float32[n, 70 or more], C order."""
    total = row_sums(model.trees, model.masks, model.length, 0.0, vectors)
    scores: Matrix = np.exp2(total / np.float32(-len(model.trees.roots) * model.normaliser))
    return scores
