"""A dataset split by time, so that a model is measured on a later period than it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError
from schemas.features import DAY
from trainer.dataset.dataset import Dataset

TEST_SHARE: Final = 0.2
CALIBRATION_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Split:
    """Row slices of the mature rows in time order.

    `cutoff` (ms) is when the model is imagined to be trained.
    """

    train: slice
    calibration: slice
    test: slice
    cutoff: int


def split(data: Dataset, *, gap_ms: int = 7 * DAY) -> Split:
    """Split by time: train, calibration, a gap of `gap_ms` for the label delay, test.

    Raises:
        ConfigurationError: the history is too short for the gap.
    """
    time = data.time[: data.mature]
    if len(time) == 0:
        raise ConfigurationError("no labelled transactions are left: nothing to train on")
    first, last = int(time[0]), int(time[-1])
    cutoff = last - round((last - first) * TEST_SHARE)
    test = int(np.searchsorted(time, cutoff))
    known = int(np.searchsorted(time, cutoff - gap_ms))
    train = known - round(known * CALIBRATION_SHARE)
    if train == 0 or known == train or test == len(time):
        days = (last - first) / DAY
        raise ConfigurationError(
            f"{days:.1f} days of history are too short for a label delay of {gap_ms / DAY:g} days: "
            "give a longer history or a shorter --label-delay-days"
        )
    return Split(slice(0, train), slice(train, known), slice(test, len(time)), cutoff)


def known_fraud(data: Dataset, rows: slice, cutoff: int) -> npt.NDArray[np.bool_]:
    """Return what was known at `cutoff`: a fraud labelled later still looks genuine."""
    return data.fraud[rows] & (data.label_time[rows] <= cutoff)
