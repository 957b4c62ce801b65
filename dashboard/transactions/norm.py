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

from schemas.columns import CHANNELS
from schemas.features import ANOMALY_FEATURE, CATALOGUE
from scorer.decision.reasons import feature_text

LEAST: Final = 5
"""Earlier values without which nothing is called usual."""
FAR: Final = 3.0
MIN_DEVIATION: Final = 0.01
"""Of the mean: cards that always did the same are not judged by rounding errors."""
EXPECTED: Final = frozenset(
    ("hour_of_day", "day_of_week", "is_weekend", "card_age_days", "merchant_age_days",
     "device_age_days")
)  # fmt: skip
"""The calendar, and ages, which grow by themselves: never unusual."""
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
    if feature.unit == "code":
        code, times = Counter(known.tolist()).most_common(1)[0]
        name = (
            CHANNELS[int(code) % len(CHANNELS)] if feature.name == "channel_code" else f"{code:.0f}"
        )
        return f"{name} in {times} of {len(known)}", judged and value not in known
    if feature.unit == "0/1":
        times = int((known == 1).sum())
        return f"yes in {times} of {len(known)}", judged and value not in known
    if feature.unit in ("day", "h UTC"):
        return "", False
    mean, deviation = float(known.mean()), float(known.std())
    least = max(deviation, MIN_DEVIATION * abs(mean), 1e-6)
    scale = 100.0 if feature.unit == "share" else 1.0
    text = f"{number(mean * scale)} ± {number(deviation * scale)}"
    return text + (" %" if feature.unit == "share" else ""), judged and abs(
        value - mean
    ) > FAR * least


def number(value: float) -> str:
    """Return a number with as many digits as say something.

    >>> number(1234.5), number(3.14159), number(0.0)
    ('1,234', '3.1', '0')
    """
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.2g}"
