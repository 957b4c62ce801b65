"""Rows of the past as they would look if they came today. Pure.

A model that learns from the newest rows also learns to recognise them: the ages of cards, shops and
devices show when a row was made. Whatever looks like fraud today then scores lower among rows from
weeks ago, and a threshold chosen on those would alert more of today's transactions than intended.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.features import CATALOGUE, DAY

AGES: Final = [place for place, each in enumerate(CATALOGUE) if each.kind == "age"]
KNOWN_DAYS: Final = max(each.window for each in CATALOGUE) / DAY
"""The longest window, 30 days: from this age on, an age is not a sign of anything new."""


def as_of(
    matrix: npt.NDArray[np.float32], time: npt.NDArray[np.int64], now_ms: int
) -> npt.NDArray[np.float32]:
    """Return the rows, float32[n, 70 or more], of times `time` as they would look at `now_ms`.

    An age of at least KNOWN_DAYS grows by the time that has passed. A card, shop or device that was
    new stays new, since there are new ones today as well.
    """
    moved = matrix.copy()
    ages = matrix[:, AGES]
    since = ((now_ms - time) / DAY).astype(np.float32)[:, None]
    moved[:, AGES] = np.where(ages >= KNOWN_DAYS, ages + since, ages)
    return moved
