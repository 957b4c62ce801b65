"""The statistics of the catalogue over plain lists; used by `tests.support.reference.catalogue`.

Amounts are integers in minor units; everything that can be exact is exact (integers, fractions)
until the last step. NaN stands for "undefined".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

NAN = math.nan
EARTH_RADIUS_KM = 6371.0088
MINUTE = 60_000
HOUR = 3_600_000
DAY = 86_400_000

Position = tuple[int, int]
"""Latitude and longitude in 1e-7 degrees."""


def major(minor: Fraction | int) -> float:
    """Minor units to major units."""
    return float(Fraction(minor) / 100)


def mean(amounts: Sequence[int]) -> Fraction:
    """Exact mean; `amounts` is not empty."""
    return Fraction(sum(amounts), len(amounts))


def variance(amounts: Sequence[int]) -> Fraction:
    """Exact variance with ddof = 1; at least two amounts."""
    middle = mean(amounts)
    return sum((a - middle) ** 2 for a in amounts) / Fraction(len(amounts) - 1)


def standard_deviation(amounts: Sequence[int]) -> float:
    """In major units; NaN if fewer than two."""
    if len(amounts) < 2:
        return NAN
    return math.sqrt(variance(amounts)) / 100


def deviation(amount: int, prior: Sequence[int]) -> float:
    """(amount - mean) / std of prior; NaN if fewer than two or if they are all equal."""
    if len(prior) < 2 or variance(prior) == 0:
        return NAN
    return float(amount - mean(prior)) / math.sqrt(variance(prior))


def ratio(amount: int, prior: Sequence[int]) -> float:
    """amount / mean of prior; NaN if there is none or the mean is 0."""
    if not prior or mean(prior) == 0:
        return NAN
    return float(amount / mean(prior))


def rank(amount: int, prior: Sequence[int]) -> float:
    """Share of prior that is smaller; NaN if there is none."""
    if not prior:
        return NAN
    return len([a for a in prior if a < amount]) / len(prior)


def hour_of_day(time: int) -> int:
    """0-23, UTC."""
    return (time // HOUR) % 24


def day_of_week(time: int) -> int:
    """Monday 0 … Sunday 6; 1970-01-01 was a Thursday."""
    return (time // DAY + 3) % 7


def hour_deviation(hour: int, prior: Sequence[int]) -> float:
    """Circular distance (h) of `hour` from the circular mean of whole hours `prior`.

    NaN if fewer than three, or if the hours cancel out so that there is no mean direction.
    """
    if len(prior) < 3:
        return NAN
    x = math.fsum(math.cos(2 * math.pi * h / 24) for h in prior)
    y = math.fsum(math.sin(2 * math.pi * h / 24) for h in prior)
    if math.hypot(x, y) / len(prior) < 1e-9:
        return NAN
    middle = math.atan2(y, x) * 24 / (2 * math.pi)
    apart = abs(hour - middle) % 24
    return min(apart, 24 - apart)


def great_circle_km(one: Position, other: Position) -> float:
    """Haversine distance on the sphere of mean radius."""
    lat1, lon1 = (math.radians(angle / 1e7) for angle in one)
    lat2, lon2 = (math.radians(angle / 1e7) for angle in other)
    h = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, h)))
