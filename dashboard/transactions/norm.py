"""The features of one transaction against what is usual for its card. Pure.

Usual is what the vectors of the card's earlier transactions say: mean and standard deviation of a
number, how often a flag was set, the most frequent code. A value is unusual beyond three standard
deviations, or when a flag or code is as it never was.
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

LEAST: Final = 5
"""Earlier values without which nothing is called usual."""
FAR: Final = 3.0
MIN_DEVIATION: Final = 0.01
"""Of the mean: cards that always did the same are not judged by rounding errors."""
EXPECTED: Final = names_of("calendar", "age")
"""The calendar, and ages, which grow by themselves: never unusual. Whether the hour is unusual for
the card is what `card_hour_deviation` says."""
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Line:
    """One feature in words; `contribution` in log-odds, None if not known."""

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
) -> list[Line]:
    """Return a line for each feature, and one for the anomaly score if it is known.

    Args:
        vector: float32[70].
        earlier: float32[n, 70], vectors of the card before it.
        contributions: float64[71], as `Model.contributions` gives them for the row.
    """
    found = [
        Line(
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
        found.append(Line(ANOMALY_FEATURE, "card", text, "", False, added))
    return found


def _usual(column: int, value: float, earlier: npt.NDArray[np.float32]) -> tuple[str, bool]:
    """Return what is usual in words, "" if not known, and whether the value is unusual."""
    feature = CATALOGUE[column]
    known = earlier[~np.isnan(earlier)].astype(np.float64)
    if len(known) < LEAST:
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
    least = max(deviation, MIN_DEVIATION * abs(mean), 1e-6)
    return _range(feature, mean, deviation), judged and abs(value - mean) > FAR * least


def _range(feature: Feature, mean: float, deviation: float) -> str:
    """Return mean and standard deviation in the unit that a person uses."""
    if feature.unit in UNIT_MS:
        size = UNIT_MS[feature.unit]
        return f"{duration(mean * size)} ± {duration(deviation * size)}"
    if feature.kind == "share":
        return f"{number(mean * 100)} ± {number(deviation * 100)}%"
    return f"{number(mean)} ± {number(deviation)}"
