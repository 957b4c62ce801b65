"""Compiled binning of many columns in one pass."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def add_rows(matrix, places, edges, starts, counts):
    """Add the rows of [n, f] to counts int64[places, f, bins + 1], missing values in the last bin.

    `places` int64[n] is the place of each row's hour, -1 to leave the row out. Column k has the
    inner edges `edges[starts[k]:starts[k+1]]`. As in `numpy.searchsorted`, a value belongs to the
    bin of the first edge that is not below it.
    """
    rows, columns = matrix.shape
    missing = counts.shape[2] - 1
    for row in range(rows):
        place = places[row]
        if place < 0:
            continue
        for column in range(columns):
            value = np.float64(matrix[row, column])
            if not np.isfinite(value):
                counts[place, column, missing] += 1
                continue
            found = 0
            for edge in range(starts[column], starts[column + 1]):
                found += edges[edge] < value
            counts[place, column, found] += 1
