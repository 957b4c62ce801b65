"""From id hashes to slots of a table: an open-addressing map that grows by rehashing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.compiled import compiled
from stream_features.engine.state.entities import SLOTS_USED, Table, assign_slots, grown


@compiled
def _rehash(keys, slots, new_keys, new_slots):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(new_keys) - 1)
    for index in range(len(keys)):
        if keys[index] != 0:
            place = keys[index] & mask
            while new_keys[place] != 0:
                place = (place + np.uint64(1)) & mask
            new_keys[place] = keys[index]
            new_slots[place] = slots[index]


class SlotMap:
    """Maps the entities of one table. Not thread-safe."""

    def __init__(self) -> None:
        self._keys = np.zeros(1024, np.uint64)
        self._slots = np.zeros(1024, np.int64)

    def assign(
        self, ids: npt.NDArray[np.uint64], table: Table
    ) -> tuple[npt.NDArray[np.int64], Table]:
        """Return the slots (int64[n]; -1 for id 0) and the table, grown if need be."""
        entries = int(table.used[SLOTS_USED]) + len(ids)
        if 2 * entries > len(self._keys):
            size = 1 << (2 * entries).bit_length()
            keys, slots = self._keys, self._slots
            self._keys = np.zeros(size, np.uint64)
            self._slots = np.zeros(size, np.int64)
            _rehash(keys, slots, self._keys, self._slots)
        if entries > len(table.slots):
            table = grown(table, slots=entries)
        slots = np.empty(len(ids), np.int64)
        assign_slots(self._keys, self._slots, ids, table, slots)
        return slots, table
