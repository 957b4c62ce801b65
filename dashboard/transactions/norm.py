"""Compares the features of one transaction with the usual values of its card. Pure.

The usual values come from the vectors of the card's earlier transactions: mean and standard
deviation of a number, frequency of a flag, the most frequent code. A number is unusual beyond three
standard deviations, a flag or code if it has never had that value.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.features import ANOMALY_FEATURE, CATALOGUE, Feature, names_of
from schemas.words.feature_words import UNIT_MS, code_text, feature_text
from schemas.words.quantities import duration, number

MIN_EARLIER: Final = 5
"""Earlier values that are needed before anything is called usual."""
FAR: Final = 3.0
MIN_DEVIATION: Final = 0.01
"""As a share of the mean, so that rounding errors do not judge cards that never vary."""
EXPECTED: Final = names_of("calendar", "age")
"""Features that are never unusual: the calendar, and ages, which grow by themselves. Unusual hours
show in `card_hour_deviation`."""
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureLine:
    """One feature in words; `contribution` is in log-odds, None if unknown."""

    name: str
    entity: str
    text: str
    usual: str
    unusual: bool
    contribution: float | None


def lines(
    vector: npt.NDArray[np.float32],
    earlier: Matrix,
    contributions: npt.NDArray[np.float64] | None,
    anomaly: float | None = None,
) -> list[FeatureLine]:
    """Return a line for each feature, and one for the anomaly score if there is one.

    Args:
        vector: float32[70].
        earlier: float32[n, 70], earlier vectors of the card.
        contributions: float64[71], a row of `Model.contributions`.
    """
    found = [
        FeatureLine(
            feature.name,
            feature.entity,
            feature_text(column, float(vector[column])),
            *_usual(column, float(vector[column]), earlier[:, column]),
            None if contributions is None else float(contributions[column]),
        )
        for column, feature in enumerate(CATALOGUE)
    ]
    if anomaly is not None:
        column = len(CATALOGUE)
        added = None if contributions is None else float(contributions[column])
        text = feature_text(column, anomaly)
        found.append(FeatureLine(ANOMALY_FEATURE, "card", text, "", False, added))
    return found


def _usual(column: int, value: float, earlier: npt.NDArray[np.float32]) -> tuple[str, bool]:
    """Return the usual value in words ("" if unknown) and whether the value is unusual."""
    feature = CATALOGUE[column]
    known = earlier[~np.isnan(earlier)].astype(np.float64)
    if len(known) < MIN_EARLIER:
        return "", False
    judged = feature.name not in EXPECTED and not np.isnan(value)
    if feature.kind == "code":
        code, times = Counter(known.tolist()).most_common(1)[0]
        return f"{code_text(feature, code)} in {times} of {len(known)}", (
            judged and value not in known
        )
    if feature.is_flag:
        times = int((known == 1).sum())
        return f"yes in {times} of {len(known)}", judged and value not in known
    if feature.kind == "calendar":
        return "", False
    mean, deviation = float(known.mean()), float(known.std())
    spread = max(deviation, MIN_DEVIATION * abs(mean), 1e-6)
    return _range(feature, mean, deviation), judged and abs(value - mean) > FAR * spread


def _range(feature: Feature, mean: float, deviation: float) -> str:
    """Return mean and standard deviation in the unit that people use."""
    if feature.unit in UNIT_MS:
        size = UNIT_MS[feature.unit]
        return f"{duration(mean * size)} ± {duration(deviation * size)}"
    if feature.kind == "share":
        return f"{number(mean * 100)} ± {number(deviation * 100)}%"
    return f"{number(mean)} ± {number(deviation)}"
