"""Rows of the past as they would come today. Pure; called by `batch`.

A model that learns from what is newest learns, too, what tells it: by the ages of cards, shops and
devices trees see when a row was. What is taken for fraud today then has a low score among rows of
weeks ago, and a threshold chosen there would let more of today's through.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.features import CATALOGUE, DAY

AGES: Final = [place for place, each in enumerate(CATALOGUE) if each.kind == "age"]
KNOWN_DAYS: Final = max(each.window for each in CATALOGUE) / DAY
"""An age from which on it is no sign of anything new: that of the longest window, 30 days."""


def as_of(
    matrix: npt.NDArray[np.float32], time: npt.NDArray[np.int64], now_ms: int
) -> npt.NDArray[np.float32]:
    """Return the rows, float32[n, 70 or more], of times `time` as they would come at `now_ms`.

    An age of at least KNOWN_DAYS becomes as old as it is by now; a card, shop or device that was
    new stays as new, since there are new ones today as well.
    """
    moved = matrix.copy()
    ages = matrix[:, AGES]
    since = ((now_ms - time) / DAY).astype(np.float32)[:, None]
    moved[:, AGES] = np.where(ages >= KNOWN_DAYS, ages + since, ages)
    return moved
