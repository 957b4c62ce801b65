"""Which distinct texts of a column the rule book has to look at: compiled, for columns of ids.

A text that passes is one that the rule book leaves unchanged.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from schemas.codec.card_numbers_kernel import holds_pan, looks_like_pan
from schemas.codec.transactions_kernel import MAX_ID, MAX_OPTIONAL_ID, is_plain_ipv4


@njit(cache=True)
def _ids(buffer, offsets, max_bytes, is_card):
    count = len(offsets) - 1
    unusual = np.zeros(count, np.bool_)
    for index in range(count):
        start, stop = offsets[index], offsets[index + 1]
        unusual[index] = not 0 < stop - start <= max_bytes
        if not unusual[index]:
            unusual[index] = holds_pan(buffer, start, stop) or (
                is_card and looks_like_pan(buffer, start, stop)
            )
    return unusual


@njit(cache=True)
def _addresses(buffer, offsets):
    count = len(offsets) - 1
    unusual = np.zeros(count, np.bool_)
    for index in range(count):
        unusual[index] = not is_plain_ipv4(buffer, offsets[index], offsets[index + 1])
    return unusual


def unusual_ids(field: str, values: Any) -> npt.NDArray[np.int64]:
    """Return the places of texts (a string array) that are too long, empty, or hold a number."""
    longest = MAX_ID if field in ("transaction_id", "card_id", "merchant_id") else MAX_OPTIONAL_ID
    if len(values) == 0:
        return np.zeros(0, np.int64)
    return np.flatnonzero(_ids(*spans_of(values), longest, field == "card_id"))


def unusual_addresses(values: Any) -> npt.NDArray[np.int64]:
    """Return the places of texts that are not plain IPv4 addresses."""
    if len(values) == 0:
        return np.zeros(0, np.int64)
    return np.flatnonzero(_addresses(*spans_of(values)))


def spans_of(values: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the bytes of a string array and the n + 1 offsets of its texts; a null is empty."""
    binary = values.cast(pa.large_binary())
    _, offsets, data = binary.buffers()
    held = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return held, np.frombuffer(offsets, np.int64)[binary.offset : binary.offset + len(binary) + 1]
