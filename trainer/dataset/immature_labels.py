"""How much young transactions count in training: those whose labels have not all come yet. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

MIN_FRAUDS: Final = 50
MOST: Final = 3.0

Flags = npt.NDArray[np.bool_]
Times = npt.NDArray[np.int64]


def young_weights(
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
    settle what was alerted, fraud or genuine, within hours: such a row counts as one.

    Of what nobody alerted only the frauds are reported, sooner or later. Let F be the share of
    mature reported frauds whose label had come at a row's age. A young reported fraud stands for
    1 / F frauds, at most MOST. A young row without a label may yet become a fraud: it counts as
    genuine, as much as keeps the odds: F times what a fraud of its age does. It does not
    count if its card has a young fraud: the others of a series are reported later. Leaving all such
    rows out would teach that whatever is recent (the ages of shops and devices tell) is fraud.
    Without MIN_FRAUDS mature reported frauds F is taken from all mature frauds, and without as
    many of these as 0.
    """
    young, labelled = time > mature_ms, label_time >= 0
    old = ~young & labelled & fraud
    if (old & ~settled).sum() >= MIN_FRAUDS:
        old &= ~settled
    delays = np.sort(label_time[old] - time[old])
    come = np.zeros(len(fraud))
    if len(delays) >= MIN_FRAUDS:
        come = np.searchsorted(delays, cutoff_ms - time, side="right") / len(delays)
    stands_for = 1.0 / np.maximum(come, 1.0 / MOST)
    weight = np.where(fraud, stands_for, stands_for * come)
    weight[settled | (labelled & ~fraud)] = 1.0
    weight[~labelled & np.isin(card, card[young & fraud])] = 0.0
    return np.where(young, weight, 1.0).astype(np.float32)
