"""Rows of the past as they would come today: what was known is older, what was new is not."""

from __future__ import annotations

import numpy as np

from schemas.features import DAY, NAMES
from trainer.training.as_of import AGES, KNOWN_DAYS, as_of

INPUTS = len(NAMES) + 1


def test_ages_move_on_and_what_was_new_stays_new() -> None:
    names = ["card_age_days", "merchant_age_days", "device_age_days"]
    assert [NAMES[place] for place in AGES] == names
    assert KNOWN_DAYS == 30
    matrix = np.arange(2 * INPUTS, dtype=np.float32).reshape(2, INPUTS)
    matrix[:, AGES] = [[40.0, 2.0, np.nan], [30.0, 29.5, 100.0]]
    given = matrix.copy()
    moved = as_of(matrix, np.array([0, 8 * DAY]), 10 * DAY)
    np.testing.assert_array_equal(moved[:, AGES], [[50.0, 2.0, np.nan], [32.0, 29.5, 102.0]])
    others = np.setdiff1d(np.arange(INPUTS), AGES)
    np.testing.assert_array_equal(moved[:, others], given[:, others])
    np.testing.assert_array_equal(matrix, given)
