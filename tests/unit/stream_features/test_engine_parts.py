"""Parts of the engine at their contract: grouping of rows, bounds of state, a lean process."""

from __future__ import annotations

import subprocess
import sys
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


def test_a_lean_process_computes_without_pandas_and_scipy() -> None:
    code = (
        "import sys; from stream_features.offline.lean_imports import refuse_unused;"
        "refuse_unused();"
        "import numpy as np, pyarrow as pa;"
        "from schemas.columns import empty_columns;"
        "from stream_features.engine.offline import OfflineEngine;"
        "columns = empty_columns(3)._replace(card=np.ones(3, np.uint64),"
        " transaction=np.arange(1, 4, dtype=np.uint64), time=np.arange(3));"
        "counts = OfflineEngine().process(columns)[0][:, 10];"
        "print(counts.tolist(), pa.array(np.arange(2)).to_pylist(),"
        " [name for name in ('pandas', 'scipy.linalg') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[1.0, 2.0, 3.0] [0, 1] []"
