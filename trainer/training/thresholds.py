"""Thresholds on the calibrated score, chosen for a wanted precision. Pure; called by `batch`.

A transaction is alerted when its score is above the threshold, as `scorer.decide` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

DEFAULTS: Final = {"block": 0.95, "review": 0.75}
"""Those of the default policy, taken where no threshold reaches the wanted precision."""
LEAST_ALERTS: Final = 20
"""A precision measured on fewer alerts is not believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionTargets:
    """Share of frauds wanted among the blocked, and among all that are blocked or reviewed.

    `most_false`: highest share of genuine rows that may be blocked or reviewed; None: any. Where
    fraud grows, a wanted precision alone would let more of the genuine be alerted.
    """

    block: float = 0.95
    review: float = 0.30
    most_false: float | None = None


def threshold_for(
    score: npt.NDArray[np.float64],
    fraud: npt.NDArray[np.bool_],
    precision: float,
    *,
    weight: npt.NDArray[np.float32] | None = None,
    most_false: float | None = None,
) -> float | None:
    """Return the least t in [0, 1) such that rows with score > t have the wanted precision.

    Of the genuine rows at most the share `most_false` is above it. Rows count by their `weight`.

    None when no t with at least `LEAST_ALERTS` rows above it has. The score is stepped, so t is
    the middle between two steps: rounding cannot carry a step over it.
    """
    steps, step = np.unique(score, return_inverse=True)
    count = np.bincount(step, minlength=len(steps))[::-1].cumsum()
    each = np.ones(len(score)) if weight is None else weight.astype(np.float64)
    rows = np.bincount(step, weights=each, minlength=len(steps))[::-1].cumsum()
    frauds = np.bincount(step, weights=fraud * each, minlength=len(steps))[::-1].cumsum()
    fits = (count >= LEAST_ALERTS) & (frauds >= precision * rows)
    if most_false is not None:
        fits &= rows - frauds <= most_false * float(each[~fraud].sum())
    good = np.flatnonzero(fits)
    if len(good) == 0:
        return None
    lowest = len(steps) - 1 - int(good[-1])  # the lowest step that is still alerted
    below = steps[lowest - 1] if lowest > 0 else 0.0
    return float((below + steps[lowest]) / 2)


def choose(
    score: npt.NDArray[np.float64],
    fraud: npt.NDArray[np.bool_],
    targets: PrecisionTargets,
    weight: npt.NDArray[np.float32] | None = None,
    newest: npt.NDArray[np.bool_] | None = None,
) -> tuple[dict[str, float], list[str]]:
    """Return the thresholds `block` and `review`, and a note for each that was not reachable.

    With `newest` the wanted precision is kept on those rows alone, too: where honest behaviour
    changes, the rest does not show it yet. Less than `LEAST_ALERTS` frauds there tell nothing.
    """
    judged = newest is not None and int(fraud[newest].sum()) >= LEAST_ALERTS
    notes: list[str] = []
    limits: dict[str, float] = {}
    for name, wanted in (("block", targets.block), ("review", targets.review)):
        found = threshold_for(score, fraud, wanted, weight=weight, most_false=targets.most_false)
        if judged and found is not None:
            own = threshold_for(
                score[newest], fraud[newest], wanted,
                weight=None if weight is None else weight[newest],
            )  # fmt: skip
            found = None if own is None else max(found, own)
        limits[name] = DEFAULTS[name] if found is None else found
        if found is None:
            notes.append(
                f"no {name} threshold reaches the precision {wanted:g} on at least {LEAST_ALERTS} "
                f"alerts of the calibration part: the default {DEFAULTS[name]:g} is used"
            )
    if limits["review"] > limits["block"]:
        notes.append(
            f"the review threshold {limits['review']:.4f} was above the block threshold: it is "
            f"lowered to {limits['block']:.4f}, nothing is reviewed without being blocked"
        )
        limits["review"] = limits["block"]
    return limits, notes
