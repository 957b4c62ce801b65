"""The periods from which a model has learned, as its bundle keeps them for the gates.

Another model is compared with it on other rows: on its own it looks better than it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError
from schemas.manifest import read_verified
from trainer.dataset.dataset import Dataset
from trainer.dataset.time_split import split

TRAINING: Final = "training.json"
"""File of a bundle: `learned`, ranges of event time (ms, both ends included), and `trained_until`,
the end of the newest."""
Range = tuple[int, int]


def learned_ranges(data: Dataset, gap_ms: int) -> tuple[Range, ...]:
    """Return the event times of the rows before the gap and of the immature ones."""
    parts = split(data, gap_ms=gap_ms)
    rows = [slice(0, parts.calibration.stop)]
    if data.immature:
        rows.append(slice(data.mature, len(data)))
    return tuple((int(data.time[part.start]), int(data.time[part.stop - 1])) for part in rows)


def document(ranges: Sequence[Range]) -> dict[str, Any]:
    """Return what a bundle keeps of them."""
    return {
        "trained_until": max(end for _, end in ranges),
        "learned": [list(each) for each in ranges],
    }


def bundle_ranges(directory: Path, sha256: str) -> tuple[Range, ...]:
    """Return the ranges of a bundle, none if it does not say.

    Of one that only says `trained_until` everything up to then counts as learned. `sha256` is the
    manifest's.

    Raises:
        ConfigurationError: its file is damaged.
    """
    files = read_verified(directory, sha256)[1]
    if TRAINING not in files:
        return ()
    try:
        known = json.loads(files[TRAINING])
        if "learned" not in known:
            return ((0, int(known["trained_until"])),)
        return tuple((int(start), int(end)) for start, end in known["learned"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigurationError(
            f"{directory / TRAINING} does not say when it learned: {error}"
        ) from error


def within(time: npt.NDArray[np.int64], ranges: Sequence[Range]) -> npt.NDArray[np.bool_]:
    """Return which of n times (ms) lie in a range.

    >>> within(np.array([1, 5, 6, 9]), [(0, 1), (5, 6)]).tolist()
    [True, True, True, False]
    """
    inside = np.zeros(len(time), np.bool_)
    for start, end in ranges:
        inside |= (time >= start) & (time <= end)
    return inside
