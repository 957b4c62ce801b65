"""Masks give the sums of the walk to the last bit, whatever the trees and the number of rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from scorer.model.leaf_masks import BLOCK, MIN_MASKED_ROWS, masks_of, row_sums
from scorer.model.trees import Tree, Trees, join, sums, trees_from

FEATURES = 9


def random_tree(draw: np.random.Generator, splits: int) -> Tree:
    """Return a tree of `splits` splits that grew at random leaves: lopsided, up to 200 leaves."""
    nodes = 2 * splits + 1
    left, right = np.full(nodes, -1), np.full(nodes, -1)
    leaves = [0]
    for step in range(splits):
        node = leaves.pop(int(draw.integers(len(leaves))))
        left[node], right[node] = 2 * step + 1, 2 * step + 2
        leaves += [2 * step + 1, 2 * step + 2]
    return Tree(
        left,
        right,
        draw.integers(0, FEATURES, nodes),
        draw.normal(size=nodes).round(1).astype(np.float32),
        draw.random(nodes) < 0.5,
    )


def forest(seed: int) -> tuple[Trees, npt.NDArray[np.float32]]:
    draw = np.random.default_rng(seed)
    trees, _ = join([random_tree(draw, splits) for splits in (0, 1, 3, 31, 32, 63, 64, 199, 5, 0)])
    return trees, draw.normal(size=len(trees.child)).astype(np.float32)


@pytest.mark.parametrize(
    "rows", [0, 1, MIN_MASKED_ROWS - 1, MIN_MASKED_ROWS, BLOCK, BLOCK + 1, 5 * BLOCK - 3]
)
def test_equal_to_the_walk(rows: int) -> None:
    trees, leaves = forest(rows)
    draw = np.random.default_rng(rows)
    matrix = draw.normal(size=(rows, FEATURES + 1)).round(1).astype(np.float32)  # many on a split
    matrix[draw.random(matrix.shape) < 0.2] = np.nan
    matrix[draw.random(matrix.shape) < 0.02] = np.inf
    matrix[draw.random(matrix.shape) < 0.02] = -np.inf
    expected = sums(trees, leaves, 0.5, matrix)
    np.testing.assert_array_equal(row_sums(trees, masks_of(trees), leaves, 0.5, matrix), expected)


def test_trees_that_share_nodes_are_refused() -> None:
    trees, _ = forest(1)
    arrays = {name: column.copy() for name, column in trees._asdict().items()}
    node = trees.roots[7]
    arrays["child"][node] += 1
    with pytest.raises(ValueError, match="two parents"):
        trees_from(arrays, FEATURES)
