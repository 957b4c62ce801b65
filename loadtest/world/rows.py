"""Transactions of the world as columns of numbers, before ids become texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

POS, ECOM, ATM, MOTO = range(4)


class WorldRows(NamedTuple):
    """n transactions in columns.

    Attributes:
        time: event time, ms UTC.
        card, merchant, device, ip: positions in `Population.ids`; -1 if missing.
        amount: minor units.
        channel: position in `schemas.columns.CHANNELS`.
        located: whether the message gives the merchant's position.
        scenario: position in `fraud.SCENARIOS`; 0 is genuine.
    """

    time: npt.NDArray[np.int64]
    card: npt.NDArray[np.int64]
    merchant: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int64]
    channel: npt.NDArray[np.int8]
    device: npt.NDArray[np.int64]
    ip: npt.NDArray[np.int64]
    located: npt.NDArray[np.bool_]
    scenario: npt.NDArray[np.int8]

    def take(self, index: Any) -> WorldRows:
        """Return some rows; `index` is an array of positions, or a mask."""
        return WorldRows._make(column[index] for column in self)


def make_rows(
    time: Any,
    card: Any,
    merchant: Any,
    amount: Any,
    *,
    channel: Any = ECOM,
    device: Any = -1,
    ip: Any = -1,
    located: Any = False,
) -> WorldRows:
    """Build genuine rows from arrays or scalars; times and amounts may be fractions."""
    n = len(time)
    return WorldRows(
        np.asarray(time).astype(np.int64),
        np.broadcast_to(np.asarray(card, np.int64), n),
        np.broadcast_to(np.asarray(merchant, np.int64), n),
        np.rint(np.broadcast_to(amount, n)).astype(np.int64),
        np.broadcast_to(np.asarray(channel, np.int8), n),
        np.broadcast_to(np.asarray(device, np.int64), n),
        np.broadcast_to(np.asarray(ip, np.int64), n),
        np.broadcast_to(np.asarray(located, np.bool_), n),
        np.zeros(n, np.int8),
    )


def join(parts: Sequence[WorldRows]) -> WorldRows:
    """Return the rows of all parts in their order."""
    return WorldRows._make(np.concatenate(columns) for columns in zip(*parts, strict=True))
