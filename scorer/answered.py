"""Source positions that already have a decision, so that none is answered twice. Pure.

Vectors of a partition arrive in the order of their source offsets, and re-emissions only repeat
earlier ones. The highest answered offset of each partition is therefore enough.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NOTHING = -1


class Answered:
    """The highest answered source offset of each partition. Not thread-safe."""

    def __init__(self) -> None:
        self._highest: dict[int, int] = {}

    def know(self, partition: int, offset: int) -> None:
        """Set the last answered offset of a partition; NOTHING if it has no decisions."""
        self._highest[partition] = offset

    def fresh(
        self, partition: npt.NDArray[np.int64], offset: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Return a mask of the rows (in order of arrival) without an answer; changes nothing.

        >>> answered = Answered()
        >>> answered.know(0, 4)
        >>> answered.fresh(np.array([0, 0, 0, 0]), np.array([4, 5, 5, 6])).tolist()
        [False, True, False, True]
        """
        fresh = np.zeros(len(offset), np.bool_)
        for number in np.unique(partition).tolist():
            rows = np.flatnonzero(partition == number)
            known = self._highest.get(number, NOTHING)
            before = np.concatenate(([known], np.maximum.accumulate(offset[rows])[:-1]))
            fresh[rows] = offset[rows] > np.maximum(before, known)
        return fresh

    def note(self, partition: npt.NDArray[np.int64], offset: npt.NDArray[np.int64]) -> None:
        """Record that these rows have been answered."""
        for number in np.unique(partition).tolist():
            highest = int(offset[partition == number].max())
            self._highest[number] = max(highest, self._highest.get(number, NOTHING))
