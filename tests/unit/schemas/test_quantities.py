"""Lengths of time, percentages and numbers, as a person says them."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.words.quantities import counted, duration, number, per_cent

DAY = 86_400_000


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-1, "0 s"), (0, "0 s"), (0.04, "less than 0.1 ms"), (0.4, "0.4 ms"), (9.94, "9.9 ms"),
        (9.96, "10 ms"), (999.4, "999 ms"), (999.6, "1 s"), (1_000, "1 s"), (1_500, "1.5 s"),
        (9_940, "9.9 s"), (9_960, "10 s"), (59_400, "59 s"), (59_600, "1 min"), (60_000, "1 min"),
        (90_000, "1 min 30 s"), (599_000, "9 min 59 s"), (600_000, "10 min"),
        (1_680_000, "28 min"), (3_599_000, "59 min"), (3_599_600, "1 h"), (3_600_000, "1 h"),
        (3_660_000, "1 h 1 min"), (35_999_000, "9 h 59 min"), (36_000_000, "10 h"),
        (DAY - 1_000, "23 h"), (DAY, "1 day"), (DAY + 3_600_000, "1 day 1 h"), (2 * DAY, "2 days"),
        (3 * DAY, "3 days"), (10 * DAY - 1_000, "9 days 23 h"), (10 * DAY + 3_600_000, "10 days"),
        (1_234 * DAY, "1,234 days"),
    ],
)  # fmt: skip
def test_a_duration_is_told_in_the_unit_that_a_person_uses(ms: float, text: str) -> None:
    assert duration(ms) == text


def test_a_length_of_time_that_float32_made_a_little_shorter_is_told_as_it_was() -> None:
    for hours in range(1, 24 * 40):
        days = float(np.nextafter(np.float32(hours / 24), np.float32(0)))
        assert duration(days * DAY) == duration(hours * 3_600_000)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0%"), (1e-9, "less than 0.1%"), (0.00049, "less than 0.1%"), (0.0005, "0.1%"),
        (0.25, "25.0%"), (1.0, "100.0%"),
    ],
)  # fmt: skip
def test_a_share_is_told_in_per_cent(share: float, text: str) -> None:
    assert per_cent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.004, "less than 0.01"), (-0.004, "just below 0"), (0.005, "0.01"),
        (0.25, "0.25"), (0.99, "0.99"), (0.996, "1"), (1.0, "1"), (1.96, "2"), (-4.25, "-4.2"),
        (10.0, "10"), (99.94, "99.9"), (99.96, "100"), (100.0, "100"), (1_234.5, "1,234"),
        (12_345_678.0, "12,345,678"),
    ],
)  # fmt: skip
def test_a_number_has_the_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text


def test_one_thing_is_told_in_the_singular_and_all_other_numbers_in_the_plural() -> None:
    assert counted(1.0, "country", "countries") == "1 country"
    assert counted(0.0, "country", "countries") == "0 countries"
    assert counted(2.0, "country", "countries") == "2 countries"
    assert counted(1_200.0, "country", "countries") == "1,200 countries"
