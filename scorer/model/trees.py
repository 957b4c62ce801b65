"""Decision trees as flat arrays, and the compiled walk through them.

Both models of a bundle are such trees: the boosted forest (`scorer.model.forest`) and the isolation
forest (`scorer.model.anomaly`). Sixteen trees are walked at once and without branches, so that
sixteen memory accesses overlap. Larger batches are scored by `scorer.model.leaf_masks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.compiled import compiled

Matrix = npt.NDArray[np.float32]
TOGETHER: Final = 16
"""Trees walked at once; any number from 8 on is equally fast."""
MAX_DEPTH: Final = 64
MAX_NODES: Final = 2**21


class Tree(NamedTuple):
    """One tree in the layout of its library: each array has shape (nodes,); leaf children are -1.

    A row goes right if its value is >= `condition`, or is missing and `missing_right` is set.
    """

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    condition: npt.NDArray[np.float32]
    missing_right: npt.NDArray[np.bool_]


class Trees(NamedTuple):
    """All trees, one after the other; a node's children are adjacent and `child` is the left one.

    `split` is 2 * feature + missing_right. A leaf is its own child and its condition is NaN, which
    no value reaches, so that every row takes exactly `depth` (int32[1]) steps in every tree.
    """

    roots: npt.NDArray[np.int32]
    depth: npt.NDArray[np.int32]
    split: npt.NDArray[np.int32]
    condition: npt.NDArray[np.float32]
    child: npt.NDArray[np.int32]


def join(trees: Sequence[Tree]) -> tuple[Trees, npt.NDArray[np.int64]]:
    """Return the trees as flat arrays, and each node's position before.

    The positions count through the nodes of all `trees`, one tree after the other. The trees must
    be sound: every node but the root has exactly one parent.
    """
    roots, places, children = [0], [], []
    deepest = 0
    for tree in trees:
        base = roots[-1]
        order, child, depth = _breadth_first(tree)
        places.append(np.array(order, np.int64) + base)
        children.append(np.array(child, np.int32) + base)
        deepest = max(deepest, depth)
        roots.append(base + len(order))
    place, first_child = np.concatenate(places), np.concatenate(children).astype(np.int32)
    leaf = first_child == np.arange(len(first_child))
    feature = np.concatenate([tree.feature for tree in trees])[place]
    missing_right = np.concatenate([tree.missing_right for tree in trees])[place]
    condition = np.concatenate([tree.condition for tree in trees])[place]
    joined = Trees(
        roots=np.array(roots[:-1], np.int32),
        depth=np.array([deepest], np.int32),
        split=np.where(leaf, 0, 2 * feature + missing_right).astype(np.int32),
        condition=np.where(leaf, np.float32(np.nan), condition).astype(np.float32),
        child=first_child,
    )
    return joined, place


def _breadth_first(tree: Tree) -> tuple[list[int], list[int], int]:
    """Return the nodes in their new order, the new position of each first child, and the depth."""
    left, right = tree.left.tolist(), tree.right.tolist()
    order, depths, child = [0], [0], []
    for place, node in enumerate(order):  # grows while it is read
        if left[node] < 0:
            child.append(place)
            continue
        child.append(len(order))
        order += [left[node], right[node]]
        depths += [depths[place] + 1] * 2
    return order, child, depths[-1]


def number_from(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> float:
    """Return the single finite number of an array.

    Raises:
        KeyError, ValueError: the array is missing, or is something else.
    """
    found = arrays[name]
    if found.dtype != np.float64 or found.shape != (1,) or not np.isfinite(found[0]):
        raise ValueError(f"{name} is not a finite number")
    return float(found[0])


def trees_from(arrays: Mapping[str, npt.NDArray[Any]], features: int) -> Trees:
    """Rebuild trees from the arrays of `Trees._asdict`, fully checked: the walk checks nothing.

    Raises:
        KeyError: a column is missing.
        ValueError: the trees are not sound; the text names the fault.
    """
    trees = Trees(*(arrays[name] for name in Trees._fields))
    for name, column in trees._asdict().items():
        expected = np.float32 if name == "condition" else np.int32
        if column.dtype != expected or column.ndim != 1:
            raise ValueError(f"{name} is {column.dtype} of {column.ndim} dimensions")
    nodes = len(trees.child)
    if len(trees.split) != nodes or len(trees.condition) != nodes or len(trees.depth) != 1:
        raise ValueError("the columns of the trees differ in length")
    if nodes > MAX_NODES:
        raise ValueError(f"{nodes:,} nodes are too many, at most {MAX_NODES:,} are served")
    roots, child = trees.roots.astype(np.int64), trees.child.astype(np.int64)
    if len(roots) == 0 or roots[0] != 0 or np.any(np.diff(roots) <= 0) or roots[-1] >= nodes:
        raise ValueError("the roots are not ascending positions of nodes")
    sizes = np.diff(np.append(roots, nodes))
    own, stop = np.arange(nodes), np.repeat(roots + sizes, sizes)
    inner = child != own
    if np.any(inner & ((child < own) | (child + 1 >= stop))):
        raise ValueError("a child does not follow its parent in the same tree")
    children = np.concatenate([child[inner], child[inner] + 1])
    parents = np.bincount(children, minlength=nodes)
    parents[roots] += 1
    if np.any(parents != 1):
        raise ValueError("a node has two parents, or none")
    if trees.depth[0] != _deepest(roots, child):
        raise ValueError(f"the depth {trees.depth[0]} is not that of the trees")
    if np.any(~inner & (~np.isnan(trees.condition) | (trees.split != 0))):
        raise ValueError("a leaf has a condition or a split")  # the walk would go on beyond it
    if not np.isfinite(trees.condition[inner]).all():
        raise ValueError("a split is at infinity or at no number")
    if np.any((trees.split < 0) | (trees.split >= 2 * features)):
        raise ValueError("a split is on an unknown feature")
    return trees


def _deepest(roots: npt.NDArray[np.int64], child: npt.NDArray[np.int64]) -> int:
    """Return the depth of sound trees.

    Raises:
        ValueError: it exceeds MAX_DEPTH.
    """
    level = roots
    for depth in range(MAX_DEPTH + 1):
        first = child[level]
        first = first[first != level]
        if len(first) == 0:
            return depth
        level = np.concatenate([first, first + 1])
    raise ValueError(f"a tree is deeper than {MAX_DEPTH}")


def sums(trees: Trees, leaves: npt.NDArray[np.float32], base: float, matrix: Matrix) -> Matrix:
    """Return `base` plus the sum of each row's leaf values in tree order, float32[n].

    `leaves` holds a value for every node; `matrix` is float32[n, features or more] in C order, and
    NaN means missing.
    """
    out = np.empty(len(matrix), np.float32)
    _sums(*trees, leaves, np.float32(base), matrix, np.empty(TOGETHER, np.int32), out)
    return out


def steps(trees: Trees, expected: npt.NDArray[np.float32], matrix: Matrix) -> npt.NDArray[Any]:
    """Return the changes of `expected` along each row's paths by feature, in `matrix`'s shape."""
    out = np.zeros(matrix.shape, np.float64)
    _steps(*trees, expected, matrix, out)
    return out


@compiled
def _sums(roots, depth, split, condition, child, leaves, base, matrix, nodes, out):  # type: ignore[no-untyped-def]
    width = len(nodes)
    for row in range(len(out)):
        total = base
        for first in range(0, len(roots), width):
            several = min(width, len(roots) - first)
            for tree in range(several):
                nodes[tree] = roots[first + tree]
            for _ in range(depth[0]):
                for tree in range(several):
                    node = nodes[tree]
                    value = matrix[row, split[node] >> 1]
                    missing_right = (value != value) & ((split[node] & 1) != 0)
                    nodes[tree] = child[node] + ((value >= condition[node]) | missing_right)
            for tree in range(several):
                total += leaves[nodes[tree]]
        out[row] = total


@compiled
def _steps(roots, depth, split, condition, child, expected, matrix, out):  # type: ignore[no-untyped-def]
    for row in range(len(out)):
        for tree in range(len(roots)):
            node = roots[tree]
            for _ in range(depth[0]):
                feature = split[node] >> 1
                value = matrix[row, feature]
                missing_right = (value != value) & ((split[node] & 1) != 0)
                following = child[node] + ((value >= condition[node]) | missing_right)
                out[row, feature] += expected[following] - expected[node]
                node = following
