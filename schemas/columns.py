"""A batch of transactions as columns: the decoder fills them, the feature engine reads them."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

CHANNELS: Final = ("POS", "ECOM", "ATM", "MOTO", "OTHER")
"""Channel codes are positions in this tuple."""
KINDS: Final = ("PURCHASE", "REFUND", "REVERSAL", "VERIFICATION")
"""Codes of kinds are positions in this tuple."""
PURCHASE, REFUND, REVERSAL, VERIFICATION = range(4)


class TransactionColumns(NamedTuple):
    """n transactions; every array has shape (n,).

    Ids are 64-bit hashes (`schemas.keys`), 0 is missing. `amount` is in minor units of the base
    currency, `time` in ms since the epoch. `position` packs E7 degrees, see `pack_position`.
    `mcc` is -1 when missing; a country is its two letters as `first << 8 | second`, 0 if missing.
    `kind` is a place in KINDS.
    """

    time: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int64]
    transaction: npt.NDArray[np.uint64]
    card: npt.NDArray[np.uint64]
    merchant: npt.NDArray[np.uint64]
    device: npt.NDArray[np.uint64]
    ip: npt.NDArray[np.uint64]
    position: npt.NDArray[np.uint64]
    mcc: npt.NDArray[np.int32]
    channel: npt.NDArray[np.int8]
    card_country: npt.NDArray[np.uint16]
    merchant_country: npt.NDArray[np.uint16]
    ip_country: npt.NDArray[np.uint16]
    kind: npt.NDArray[np.int8]

    def take(self, index: npt.NDArray[np.int64]) -> TransactionColumns:
        """Return the rows `index`, in that order."""
        return type(self)._make(column[index] for column in self)

    def cut(self, first: int, last: int) -> TransactionColumns:
        """Return rows first..last-1 as views."""
        return type(self)._make(column[first:last] for column in self)

    @property
    def spent(self) -> npt.NDArray[np.int64]:
        """Amounts as statistics count them: a verification spends nothing, whatever was sent."""
        if not self.kind.any():
            return self.amount
        return np.where(self.kind == VERIFICATION, 0, self.amount)

    @property
    def given_back(self) -> npt.NDArray[np.bool_]:
        """Which transactions are refunds and reversals, which no state counts."""
        return np.isin(self.kind, (REFUND, REVERSAL))

    @property
    def rows(self) -> int:
        """Number of transactions."""
        return len(self.time)


def empty_columns(rows: int) -> TransactionColumns:
    """Return `rows` rows without any optional field."""
    return TransactionColumns(
        time=np.zeros(rows, np.int64),
        amount=np.zeros(rows, np.int64),
        transaction=np.zeros(rows, np.uint64),
        card=np.zeros(rows, np.uint64),
        merchant=np.zeros(rows, np.uint64),
        device=np.zeros(rows, np.uint64),
        ip=np.zeros(rows, np.uint64),
        position=np.zeros(rows, np.uint64),
        mcc=np.full(rows, -1, np.int32),
        channel=np.full(rows, 4, np.int8),
        card_country=np.zeros(rows, np.uint16),
        merchant_country=np.zeros(rows, np.uint16),
        ip_country=np.zeros(rows, np.uint16),
        kind=np.full(rows, PURCHASE, np.int8),
    )


def pack_position(
    latitude: npt.NDArray[np.float64], longitude: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint64]:
    """Quantise degrees to E7 and pack them as (lat + 2^31) << 32 | (lon + 2^31).

    NaN becomes 0, as does 0° N 0° E: no shop stands there, but look-ups that fail answer so.
    """
    missing = np.isnan(latitude) | np.isnan(longitude) | ((latitude == 0) & (longitude == 0))
    lat = np.rint(np.where(missing, 0.0, latitude) * 1e7).astype(np.int64) + 2**31
    lon = np.rint(np.where(missing, 0.0, longitude) * 1e7).astype(np.int64) + 2**31
    packed = (lat.astype(np.uint64) << np.uint64(32)) | lon.astype(np.uint64)
    packed[missing] = 0
    return packed


def pack_country(code: str | None) -> int:
    """Return the number of a two-letter country, 0 if missing."""
    return 0 if not code else ord(code[0]) << 8 | ord(code[1])
