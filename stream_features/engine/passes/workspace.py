"""Data shared by the kernels: the scratch of one row, and the results of a batch."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.columns import REFUND, REVERSAL
from schemas.compiled import leaf
from schemas.features import DAY
from stream_features.engine.plan import EntityPlan, FeaturePlan
from stream_features.engine.state.entities import CARD_COLUMNS

DUPLICATE: Final = 1
LATE: Final = 2
FRAUD_FOUND, TO_MERCHANT, TO_DEVICE, TO_IP = 1, 2, 4, 8
CHANGED: Final = 1
FOLDED: Final = 2
RETENTION: Final = 30 * DAY
TRANSACTION_BITS: Final = 2**48 - 1
"""A card distinguishes its transactions by 48 bits of their hashes."""


class Workspace(NamedTuple):
    """Scratch memory that is reused from row to row.

    Attributes:
        scratch: float64, the statistics of an entity, see `EntityPlan`.
        starts, distinct: int64[windows], the first event and the sum of the flags of each window.
        last: int64[distinct column], the newest event with the same value.
        saved: int64[column], an event set aside.
        folded, folded_frauds: int64[windows], events and frauds of tiles in each window.
    """

    scratch: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int64]
    distinct: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    saved: npt.NDArray[np.int64]
    folded: npt.NDArray[np.int64]
    folded_frauds: npt.NDArray[np.int64]


class Rows(NamedTuple):
    """The results of the n rows of a batch.

    Attributes:
        vectors: float32[n, features]. flags: uint8[n] (DUPLICATE, LATE).
        effects: uint8[n], bits for the shared entities that the row was added to (TO_MERCHANT,
            TO_DEVICE, TO_IP) and for a pending fraud label that it matched (FRAUD_FOUND).
        original_time, original_amount: int64[n], filled for duplicates.
        alike: uint8[n], for duplicates: bits for the shared entities of the original (TO_...).
    """

    vectors: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]
    effects: npt.NDArray[np.uint8]
    original_time: npt.NDArray[np.int64]
    original_amount: npt.NDArray[np.int64]
    alike: npt.NDArray[np.uint8]


def new_workspace(plan: FeaturePlan) -> Workspace:
    """Return the scratch for `plan`."""
    plans = [part for part in plan if isinstance(part, EntityPlan)]
    windows = max(len(part.windows) for part in plans)
    return Workspace(
        np.zeros(max(part.size for part in plans)),
        np.zeros(windows, np.int64),
        np.zeros(windows, np.int64),
        np.zeros(8, np.int64),
        np.zeros(CARD_COLUMNS, np.int64),
        np.zeros(windows, np.int64),
        np.zeros(windows, np.int64),
    )


def new_rows(count: int, features: int) -> Rows:
    """Return the results of `count` rows, to be filled by the passes."""
    return Rows(
        np.empty((count, features), np.float32),
        np.zeros(count, np.uint8),
        np.zeros(count, np.uint8),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.zeros(count, np.uint8),
    )


@leaf
def write_features(plan, scratch, vector):  # type: ignore[no-untyped-def]
    """Gather the entity's part of one vector (float32[features]) from scratch."""
    for k in range(len(plan.features)):
        vector[plan.features[k]] = np.float32(scratch[plan.sources[k]])
    for k in range(len(plan.ratios)):
        place = plan.ratios[k]
        average = scratch[plan.baselines[k]] / plan.baseline_windows[k]
        ratio = scratch[plan.sources[place]] / average if average != 0 else np.nan
        vector[plan.features[place]] = np.float32(ratio)


@leaf
def is_counted(kind):  # type: ignore[no-untyped-def]
    """Return 1 for what is added to the state, 0 for a refund or reversal."""
    return np.int64(kind != REFUND and kind != REVERSAL)


@leaf
def fraud_tag(transaction, card):  # type: ignore[no-untyped-def]
    """Return the identity of a fraud on a shared entity: a hash of transaction and card."""
    return (np.int64(transaction) & TRANSACTION_BITS) ^ np.int64(card)


def fraud_tags(
    transaction: npt.NDArray[np.uint64], card: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """Return the `fraud_tag` (int64[n]) of n labels."""
    return (transaction.view(np.int64) & TRANSACTION_BITS) ^ card.view(np.int64)
