"""The hash table of compiled code behaves like a dict, whatever collides in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.hash_table import find, insert_rows, new_table, remove, table_size

# In a table of 64 places many of these collide, also around the end of the table.
COLLIDING = st.integers(0, 2**64 - 1).map(lambda number: number & ~0x38) | st.sampled_from(
    [62, 63, 2**63 + 63, 64 + 62, 2**64 - 1]
)


def looked_up(table: npt.NDArray[np.int32], keys: npt.NDArray[np.uint64], key: int) -> int:
    return int(table[find(table, keys, np.uint64(key))])


def test_a_table_is_at_most_half_used() -> None:
    assert [table_size(rows) for rows in (0, 1, 2, 3, 4, 5, 32, 33)] == [2, 2, 4, 8, 8, 16, 64, 128]


def test_a_full_table_still_says_what_it_does_not_hold() -> None:
    keys = np.arange(32, dtype=np.uint64) * np.uint64(64)  # all have the same home
    table = new_table(32)
    insert_rows(table, keys, 32)
    assert [looked_up(table, keys, int(key)) for key in keys] == list(range(32))
    assert looked_up(table, keys, 32 * 64) == -1
    assert looked_up(table, keys, 1) == -1


def test_a_chain_goes_on_at_the_start_of_the_table() -> None:
    keys = np.array([7, 15, 23], np.uint64)
    table = new_table(4)
    insert_rows(table, keys, 3)
    assert table.tolist() == [1, 2, -1, -1, -1, -1, -1, 0]
    remove(table, keys, find(table, keys, np.uint64(7)))
    assert table.tolist() == [2, -1, -1, -1, -1, -1, -1, 1]


def test_removing_leaves_a_row_that_is_already_at_home() -> None:
    keys = np.array([3, 11, 4, 5], np.uint64)
    table = new_table(4)
    insert_rows(table, keys, 4)
    assert table.tolist() == [-1, -1, -1, 0, 1, 2, 3, -1]
    remove(table, keys, find(table, keys, np.uint64(3)))
    assert table.tolist() == [-1, -1, -1, 1, 2, 3, -1, -1]
    remove(table, keys, find(table, keys, np.uint64(11)))
    assert table.tolist() == [-1, -1, -1, -1, 2, 3, -1, -1]


def test_a_larger_table_finds_every_row_of_the_smaller() -> None:
    keys = np.random.default_rng(1).integers(0, 2**64 - 1, 5_000, np.uint64, endpoint=True)
    small, large = new_table(1_000), new_table(5_000)
    insert_rows(small, keys, 1_000)
    insert_rows(large, keys, 5_000)
    for table, rows in ((small, 1_000), (large, 5_000)):
        assert [looked_up(table, keys, int(key)) for key in keys[:rows]] == list(range(rows))
    assert {looked_up(small, keys, int(key)) for key in keys[1_000:]} == {-1}


@given(steps=st.lists(st.tuples(st.booleans(), COLLIDING), max_size=120))
@settings(deadline=None)
def test_inserting_and_removing_in_any_order_equals_a_dict(steps: list[tuple[bool, int]]) -> None:
    table, keys = new_table(32), np.zeros(32, np.uint64)
    expected: dict[int, int] = {}
    free = list(range(32))
    for insert, key in steps:
        place = find(table, keys, np.uint64(key))
        assert int(table[place]) == expected.get(key, -1)
        if insert and key not in expected and free:
            row = free.pop()
            table[place], keys[row] = row, key
            expected[key] = row
        elif not insert and key in expected:
            remove(table, keys, place)
            free.append(expected.pop(key))
    assert {key: looked_up(table, keys, key) for key in expected} == expected
    assert int((table >= 0).sum()) == len(expected)
