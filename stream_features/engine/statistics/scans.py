"""Loops over one contiguous column, written without branches so that LLVM vectorises them.

All are pure functions of int64 slices.
"""

from __future__ import annotations

from schemas.compiled import leaf


@leaf
def count_at_most(values, limit):  # type: ignore[no-untyped-def]
    """Return the number of values <= limit."""
    found = 0
    for index in range(len(values)):
        found += 1 if values[index] <= limit else 0
    return found


@leaf
def last_equal(values, wanted):  # type: ignore[no-untyped-def]
    """Return the last index that holds `wanted`, or -1."""
    last = -1
    for index in range(len(values)):
        last = max(last, index if values[index] == wanted else -1)
    return last


@leaf
def window_starts(times, edge, floor, windows, starts):  # type: ignore[no-untyped-def]
    """Fill `starts`: for each window W the index of the first of ascending `times` after edge - W.

    Times at or before `floor` are in no window. `windows` ascend, so each search continues within
    the next longer window.
    """
    low = 0
    for w in range(len(windows) - 1, -1, -1):
        low += count_at_most(times[low:], max(floor, edge - windows[w]))
        starts[w] = low


@leaf
def squared_deviations(values, reference):  # type: ignore[no-untyped-def]
    """Return the sum of (value - reference)², exact while no difference reaches 2^27."""
    total = 0
    widest = 0
    for index in range(len(values)):
        distance = values[index] - reference
        total += distance * distance
        widest |= distance ^ (distance >> 63)
    if widest >> 27 == 0 and len(values) <= 512:
        return float(total)
    squares = 0.0
    for index in range(len(values)):
        far = float(values[index] - reference)
        squares += far * far
    return squares
