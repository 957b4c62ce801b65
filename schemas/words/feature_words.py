"""Values of features in words, for reasons and for pages. Pure.

What is said of each feature stands in the catalogue; this module puts a value into it, in the unit
that a person uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from schemas.columns import CHANNELS
from schemas.features import (
    ANOMALY_DESCRIPTION,
    ANOMALY_FEATURE,
    CATALOGUE,
    COUNTED,
    DAY,
    HOUR,
    Feature,
)
from schemas.words.quantities import counted, duration, number, per_cent

WEEKDAYS: Final = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip
DESCRIPTIONS: Final[dict[str, str]] = {
    **{feature.name: feature.description for feature in CATALOGUE},
    ANOMALY_FEATURE: ANOMALY_DESCRIPTION,
}
"""What each input of the model is, by its name."""
UNIT_MS: Final = {"s": 1_000, "h": HOUR, "d": DAY}
"""Units of time in the vector."""


def feature_text(column: int, value: float) -> str:
    """Return what the value of a column says, for a person.

    Args:
        column: place in the catalogue; the one behind its end is the anomaly score.
        value: as in the vector; NaN is told as unknown.

    >>> feature_text(11, 12.0)
    '12 transactions with the card in 1 hour'
    >>> feature_text(31, 0.01945)
    "28 min since the card's first transaction"
    """
    if column == len(CATALOGUE):
        return f"unusual behaviour of the card: {value:.2f} on a scale from 0 to 1"
    feature = CATALOGUE[column]
    if math.isnan(value):
        return f"{feature.description}: unknown"
    if feature.is_flag:
        return feature.phrase if value else feature.otherwise
    return feature.phrase.format(value_text(feature, value))


def value_text(feature: Feature, value: float) -> str:
    """Return a known value in its unit, for a person.

    >>> value_text(CATALOGUE[30], 1_680.0), value_text(CATALOGUE[25], -4.2)
    ('28 min', '4.2 standard deviations below')
    """
    if feature.unit in COUNTED:
        return counted(value, *COUNTED[feature.unit])
    if feature.unit in UNIT_MS:
        return duration(value * UNIT_MS[feature.unit])
    return _VALUES[feature.unit](value) if feature.kind != "code" else code_text(feature, value)


def code_text(feature: Feature, value: float) -> str:
    """Return the name that a code stands for; a merchant category has four digits.

    >>> code_text(CATALOGUE[6], 1.0), code_text(CATALOGUE[7], 742.0)
    ('ECOM', '0742')
    """
    if feature.statistic == "channel":
        return CHANNELS[int(value) % len(CHANNELS)]
    return f"{value:04.0f}"


def _deviations(value: float) -> str:
    shown = number(abs(value))
    unit = "standard deviation" if shown == "1" else "standard deviations"
    where = "from" if value == 0 else "above" if value > 0 else "below"
    return f"{shown} {unit} {where}"


def _times(value: float) -> str:
    """Return a ratio; 1.0 keeps its digit, since "1 times" reads like a mistake."""
    shown = number(value)
    return f"{'1.0' if shown == '1' else shown} times"


_VALUES: Final[dict[str, Callable[[float], str]]] = {
    "major units": lambda value: f"{value:,.2f}",
    "0/1": lambda value: "yes" if value else "no",
    "h UTC": lambda value: f"{value:02.0f}:00 UTC",
    "day": lambda value: WEEKDAYS[int(value) % 7],
    "standard deviations": _deviations,
    "ratio": _times,
    "share": per_cent,
    "km": lambda value: f"{number(value)} km",
    "km/h": lambda value: f"{number(value)} km/h",
}
