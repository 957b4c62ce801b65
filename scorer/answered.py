"""Which source positions have a decision already, so that none is answered twice. Pure.

Within a partition vectors come in the order of their source offsets, and a re-emission repeats
earlier ones; so the highest answered offset of a partition says it all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NOTHING = -1


class Answered:
    """Highest answered source offset by partition; used by one thread."""

    def __init__(self) -> None:
        self._highest: dict[int, int] = {}

    def know(self, partition: int, offset: int) -> None:
        """Note what the tail of the decisions says; NOTHING if there is none."""
        self._highest[partition] = offset

    def fresh(
        self, partition: npt.NDArray[np.int64], offset: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Return which rows (in order of arrival) have no answer yet; does not note them.

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
        """Note rows that are answered now."""
        for number in np.unique(partition).tolist():
            highest = int(offset[partition == number].max())
            self._highest[number] = max(highest, self._highest.get(number, NOTHING))
