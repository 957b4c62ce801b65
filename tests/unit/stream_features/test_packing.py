"""Columns of numbers survive packing, whatever their widths, repetitions and neighbours."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_features.engine.state.packing import (
    MAX_CODES,
    SLACK,
    TABLE,
    get_column,
    get_times,
    put_column,
    put_times,
)

NUMBERS = st.one_of(
    st.integers(0, 300), st.integers(0, 2**48), st.integers(-(2**63), 2**63 - 1), st.just(0)
)
COLUMN = st.lists(NUMBERS, max_size=40) | st.lists(NUMBERS, min_size=1, max_size=4).flatmap(
    lambda few: st.lists(st.sampled_from(few), max_size=300)
)


def through(values: list[int]) -> tuple[list[int], int]:
    """Return the column as read back, and its packed size."""
    n = len(values)
    out = np.full(10 * n + TABLE + 64, 0xAA, np.uint8)
    end = int(put_column(out, 3, np.array(values, np.int64), n))
    data = np.concatenate([out[:end], np.full(SLACK, 0x55, np.uint8)])
    back = np.full(n, -7, np.int64)
    assert get_column(data, 3, back, n) == end
    return back.tolist(), end - 3


@given(COLUMN)
@settings(max_examples=200, deadline=None)
def test_a_column_is_read_back(values: list[int]) -> None:
    assert through(values)[0] == values


def test_hashes_take_a_dictionary_as_long_as_codes_suffice() -> None:
    random = np.random.default_rng(3)
    hashes = random.integers(-(2**63), 2**63 - 1, MAX_CODES).tolist()
    for values in (hashes, [*hashes, hashes[0]], hashes[:5] * 51, [0, *hashes[:254]]):
        assert through(values)[0] == values
    assert through(hashes[:5] * 40)[1] == 2 + 5 * 8 + 200
    assert through([0] * 200)[1] == 1


@given(st.lists(st.integers(0, 2**45), min_size=1, max_size=50), st.integers(-(2**62), 2**60))
@settings(max_examples=100, deadline=None)
def test_ascending_times_are_read_back(steps: list[int], first: int) -> None:
    times = first + np.cumsum(np.array(steps, np.int64))
    out = np.empty(10 * len(steps) + 64, np.uint8)
    end = put_times(out, 0, times, len(times))
    back = np.empty(len(times), np.int64)
    assert get_times(out, 0, back, len(times)) == end
    assert back.tolist() == times.tolist()
