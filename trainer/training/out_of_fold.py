"""Cross-fitting: each row gets its probability from a model that has not seen its card. Pure.

So rows serve twice, to learn from and to calibrate on: new kinds of fraud are rare, and both need
them. Source: Platt, Probabilistic outputs for support vector machines (1999), section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

FOLDS: Final = 3
Rows = npt.NDArray[np.int64]
Predict = Callable[[Rows], npt.NDArray[np.float64]]


def out_of_fold(
    card: npt.NDArray[np.uint64],
    learned: Rows,
    fit: Callable[[Rows], Predict],
    folds: int = FOLDS,
) -> npt.NDArray[np.float64]:
    """Return the probability of each row, float64[n], by a model fitted without its card.

    Transactions of a card resemble each other, so a card is whole in one fold. `fit` is called with
    the places in `learned` (int64, ascending) of each fold's training rows; what it returns, with
    the fold's own rows, whether learned from or not.

    >>> seen = lambda places: lambda rows: np.isin(rows, places).astype(float)
    >>> out_of_fold(np.array([5, 6, 7, 5], np.uint64), np.arange(4), seen).tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    fold = card % np.uint64(folds)
    found = np.zeros(len(card))
    for number in range(folds):
        own = np.flatnonzero(fold == number)
        if len(own):
            found[own] = fit(np.flatnonzero(fold[learned] != number))(own)
    return found
