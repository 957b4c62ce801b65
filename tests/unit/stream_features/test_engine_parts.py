"""Parts of the engine at their contract: grouping of rows, bounds of state, a lean process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from stream_features.engine.offline import OfflineEngine
from stream_features.engine.passes.grouping import group_rows
from stream_features.engine.state.entities import MAX_CARD_EVENTS

ROOT = Path(__file__).parents[3]


@settings(deadline=None)
@given(st.lists(st.integers(-1, 5)))
def test_rows_of_an_entity_stand_together_and_in_order(slots: list[int]) -> None:
    counts = np.zeros(6, np.int64)
    order = np.empty(len(slots), np.int64)
    group_rows(np.array(slots, np.int64), counts, np.empty(len(slots), np.int64), order)
    present = dict.fromkeys(slot for slot in slots if slot >= 0)
    groups = [*present, -1]
    assert order.tolist() == [
        row for slot in groups for row, own in enumerate(slots) if own == slot
    ]
    assert not counts.any()


def test_more_exact_events_than_byte_wide_sums_hold_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="251"):
        OfflineEngine(card_events=MAX_CARD_EVENTS + 1)
