"""Maps id hashes to slots of a table, by a hash table that grows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.hash_table import insert_rows, new_table
from stream_features.engine.state.entities import SLOTS_USED, Table, assign_slots, grown


class SlotMap:
    """Maps the entities of one table. Not thread-safe."""

    def __init__(self) -> None:
        self._ids = np.zeros(512, np.uint64)
        self._slots = new_table(len(self._ids))

    def assign(
        self, ids: npt.NDArray[np.uint64], table: Table
    ) -> tuple[npt.NDArray[np.int64], Table]:
        """Return the slots (int64[n]; -1 for id 0) and the table, grown if needed."""
        used = int(table.used[SLOTS_USED])
        entries = used + len(ids)
        if entries > len(self._ids):
            longer = np.zeros(1 << entries.bit_length(), np.uint64)
            longer[:used] = self._ids[:used]
            self._ids, self._slots = longer, new_table(len(longer))
            insert_rows(self._slots, self._ids, used)
        if entries > len(table.slots):
            table = grown(table, slots=entries)
        slots = np.empty(len(ids), np.int64)
        assign_slots(self._slots, self._ids, ids, table, slots)
        return slots, table
