"""Weights of immature transactions, whose labels have not all arrived yet, in training. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

MIN_FRAUDS: Final = 50
MAX_STANDS_FOR: Final = 3.0

Flags = npt.NDArray[np.bool_]
Times = npt.NDArray[np.int64]


def immature_weights(
    time: Times,
    card: npt.NDArray[np.uint64],
    fraud: Flags,
    label_time: Times,
    settled: Flags,
    *,
    mature_ms: int,
    cutoff_ms: int,
) -> npt.NDArray[np.float32]:
    """Return how much each row counts, float32[n]; 0: not at all. Mature rows count as one.

    `label_time` is -1 without a label; `settled` are rows to which an analyst gave one. People
    settle alerts, as fraud or genuine, within hours: such a row counts as one.

    Among transactions that were not alerted only frauds are reported, sooner or later. Let F be the
    share of mature reported frauds whose label had arrived at a row's age. An immature reported
    fraud stands for 1 / F frauds, at most MAX_STANDS_FOR. An immature row without a label may still
    turn out to be a fraud: it counts as genuine with F times the weight of a fraud of its age, so
    that the odds stay. It does not count if its card has an immature fraud, because the others of a
    series are reported later. Leaving out all rows without a label would teach that anything recent
    (the ages of shops and devices show it) is fraud. Without MIN_FRAUDS mature reported frauds F is
    taken from all mature frauds, and without as many of these F is 0.
    """
    immature, labelled = time > mature_ms, label_time >= 0
    old = ~immature & labelled & fraud
    if (old & ~settled).sum() >= MIN_FRAUDS:
        old &= ~settled
    delays = np.sort(label_time[old] - time[old])
    come = np.zeros(len(fraud))
    if len(delays) >= MIN_FRAUDS:
        come = np.searchsorted(delays, cutoff_ms - time, side="right") / len(delays)
    stands_for = 1.0 / np.maximum(come, 1.0 / MAX_STANDS_FOR)
    weight = np.where(fraud, stands_for, stands_for * come)
    weight[settled | (labelled & ~fraud)] = 1.0
    weight[~labelled & np.isin(card, card[immature & fraud])] = 0.0
    return np.where(immature, weight, 1.0).astype(np.float32)
