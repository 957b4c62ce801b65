"""Tables of the world: cities, merchant categories, hours of the day and holidays.

Amounts are natural logarithms of major units. Weights need not add up to one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np


class City(NamedTuple):
    """A city; its share of people and merchants is proportional to `weight`."""

    country: str
    latitude: float
    longitude: float
    weight: float


class Category(NamedTuple):
    """An ISO 18245 merchant category.

    `weight` is proportional to its number of merchants; `mean` and `deviation` describe the
    logarithm of their amounts; `online` is the share of them that sell online.
    """

    mcc: int
    weight: float
    mean: float
    deviation: float
    online: float


CITIES: Final = (
    City("DE", 52.52, 13.40, 9), City("DE", 53.55, 9.99, 6), City("DE", 48.14, 11.58, 7),
    City("DE", 50.11, 8.68, 6), City("DE", 50.94, 6.96, 6), City("DE", 51.05, 13.74, 3),
    City("FR", 48.86, 2.35, 9), City("FR", 45.76, 4.84, 4), City("FR", 43.30, 5.37, 4),
    City("ES", 40.42, -3.70, 6), City("ES", 41.39, 2.17, 5), City("ES", 39.57, 2.65, 1),
    City("IT", 41.90, 12.50, 5), City("IT", 45.46, 9.19, 5), City("NL", 52.37, 4.90, 4),
    City("BE", 50.85, 4.35, 3), City("AT", 48.21, 16.37, 4), City("PT", 38.72, -9.14, 3),
    City("IE", 53.35, -6.26, 2), City("FI", 60.17, 24.94, 2), City("GR", 37.98, 23.73, 2),
    City("PL", 52.23, 21.01, 0.5), City("GB", 51.51, -0.13, 0.8), City("CH", 47.38, 8.54, 0.4),
    City("US", 40.71, -74.01, 0.5), City("US", 34.05, -118.24, 0.3), City("TR", 41.01, 28.98, 0.5),
    City("TH", 13.76, 100.50, 0.3), City("AE", 25.20, 55.27, 0.3), City("JP", 35.68, 139.69, 0.2),
    City("BR", -23.55, -46.63, 0.15), City("NG", 6.52, 3.38, 0.05), City("RO", 44.43, 26.10, 0.2),
)  # fmt: skip

CATEGORIES: Final = (
    Category(5411, 20, 3.2, 0.7, 0.03), Category(5814, 12, 2.2, 0.5, 0.1),
    Category(5812, 12, 3.4, 0.5, 0.05), Category(5541, 7, 3.9, 0.35, 0.0),
    Category(5912, 6, 2.8, 0.6, 0.1), Category(5311, 6, 3.7, 0.7, 0.3),
    Category(5651, 7, 3.9, 0.6, 0.4), Category(5732, 4, 4.9, 0.9, 0.5),
    Category(5944, 1.5, 5.2, 0.8, 0.2), Category(4111, 4, 1.8, 0.6, 0.4),
    Category(5999, 5, 3.3, 0.8, 0.9), Category(4899, 1.5, 2.4, 0.3, 1.0),
    Category(5815, 2.5, 2.2, 0.7, 1.0), Category(4511, 1.5, 5.2, 0.6, 0.95),
    Category(7011, 3, 5.0, 0.5, 0.3), Category(7995, 0.8, 3.2, 0.9, 1.0),
    Category(5262, 1.5, 3.7, 0.7, 1.0), Category(8099, 2, 3.9, 0.7, 0.05),
    Category(4900, 1, 4.2, 0.4, 1.0), Category(6011, 4, 4.3, 0.5, 0.0),
)  # fmt: skip

ATM_MCC: Final = 6011
RECURRING_MCCS: Final = (4899, 4900, 5815)
RESALE_MCCS: Final = (5732, 5944, 5262, 5651)
DIGITAL_MCCS: Final = (5815, 5262, 5999, 7995)

COUNTRIES: Final = tuple(sorted({city.country for city in CITIES} | {"RU", "CN", "VN", "PA"}))
CITY_COUNTRY: Final = np.array([COUNTRIES.index(city.country) for city in CITIES], np.int8)


def _profile(*peaks: tuple[float, float, float]) -> list[float]:
    hours = np.arange(24)
    total = np.full(24, 0.03)
    for centre, width, height in peaks:
        distance = np.minimum(np.abs(hours - centre), 24 - np.abs(hours - centre))
        total += height * np.exp(-0.5 * (distance / width) ** 2)
    return list(np.cumsum(total) / total.sum())


HOURS: Final = np.array(
    [
        _profile((8, 1, 1), (12.5, 1, 1.5), (18, 2, 2)),  # commuter
        _profile((10.5, 2, 2), (15, 2.5, 2)),  # at home by day
        _profile((13, 2, 1), (20, 2, 2)),  # evening
        _profile((22, 3, 2), (2, 2, 1), (16, 2, 1)),  # night
    ]
)
"""Cumulative share of purchases by local hour for each kind of person, shape (4, 24)."""


def holiday_factor(month: int, day: int) -> tuple[float, float]:
    """Return a day's factor on all purchases, and its further factor on online ones."""
    if (month, day) in {(12, 25), (12, 26), (1, 1), (5, 1), (10, 3)}:
        return 0.45, 1.2
    if month == 12 and day < 25:
        return 1.15 + 0.012 * day, 1.3
    if month == 11 and 24 <= day <= 29:
        return 1.3, 2.0
    return 1.0, 1.0
