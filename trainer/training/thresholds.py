"""Thresholds on the calibrated score, chosen for a wanted precision. Pure.

A transaction is alerted when its score is above the threshold, as `scorer.decision.decide` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

DEFAULTS: Final = {"block": 0.95, "review": 0.75}
"""Those of the default policy: the least where no threshold reaches the wanted precision."""
MIN_ALERTS: Final = 20
"""A precision measured on fewer alerts is not believed."""
MAX_FALSE: Final = 0.0004
"""The service's and the simulation's budget of alerts on genuine. `trainer train` has none of its
own: of a file of history nobody knows what share of it is fraud, or how sure its labels are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionTargets:
    """Share of frauds wanted among the blocked, and among all that are blocked or reviewed.

    `settled`: that among the alerts settled lately, blocked or reviewed; above the floor at which
    the monitor asks for another model, 0.85. It can be higher than `review`, since fraud that
    nobody has reported yet counts as genuine among other rows.
    `max_false`: highest share of genuine rows that may be blocked or reviewed; None: any. Where
    fraud grows, a wanted precision alone would let more of the genuine be alerted.
    """

    block: float = 0.95
    review: float = 0.75
    settled: float = 0.90
    max_false: float | None = None


def threshold_for(
    score: npt.NDArray[np.float64],
    fraud: npt.NDArray[np.bool_],
    precision: float,
    *,
    max_false: float | None = None,
) -> float | None:
    """Return the least t in [0, 1) such that rows with score > t have the wanted precision.

    Of the genuine rows at most the share `max_false` is above it.

    None when no t with at least `MIN_ALERTS` rows above it has. The score is stepped, so t is
    the middle between two steps: rounding cannot carry a step over it.
    """
    steps, step = np.unique(score, return_inverse=True)
    rows = np.bincount(step, minlength=len(steps))[::-1].cumsum()
    frauds = np.bincount(step, weights=fraud, minlength=len(steps))[::-1].cumsum()
    fits = (rows >= MIN_ALERTS) & (frauds >= precision * rows)
    if max_false is not None:
        fits &= rows - frauds <= max_false * float((~fraud).sum())
    good = np.flatnonzero(fits)
    if len(good) == 0:
        return None
    lowest = len(steps) - 1 - int(good[-1])  # the lowest step that is still alerted
    below = steps[lowest - 1] if lowest > 0 else 0.0
    return float((below + steps[lowest]) / 2)


class Judged(NamedTuple):
    """m alerts that were settled lately: score and what they were found to be."""

    score: npt.NDArray[np.float64]
    fraud: npt.NDArray[np.bool_]


def choose(
    score: npt.NDArray[np.float64],
    fraud: npt.NDArray[np.bool_],
    targets: PrecisionTargets,
    settled: Judged | None = None,
) -> tuple[dict[str, float], list[str]]:
    """Return the thresholds `block` and `review`, and a note for each that was not reachable.

    The wanted precision is kept on the `settled` alerts by themselves, too: where honest behaviour
    changes, the rest does not show it yet. Fewer than `MIN_ALERTS` of them are ignored.
    """
    notes: list[str] = []
    limits: dict[str, float] = {}
    for name, wanted, own_wanted in (
        ("block", targets.block, max(targets.block, targets.settled)),
        ("review", targets.review, targets.settled),
    ):
        found = threshold_for(score, fraud, wanted, max_false=targets.max_false)
        if found is None:
            notes.append(_unreached(name, wanted, "alerts"))
            found = DEFAULTS[name]
        elif settled is not None and len(settled.score) >= MIN_ALERTS:
            own = threshold_for(settled.score, settled.fraud, own_wanted)
            if own is None:
                notes.append(_unreached(name, own_wanted, "settled alerts"))
                own = DEFAULTS[name]
            found = max(found, own)
        limits[name] = found
    if limits["review"] > limits["block"]:
        notes.append(
            f"the review threshold {limits['review']:.4f} was above the block threshold: it is "
            f"lowered to {limits['block']:.4f}, nothing is reviewed without being blocked"
        )
        limits["review"] = limits["block"]
    return limits, notes


def _unreached(name: str, wanted: float, rows: str) -> str:
    return (
        f"no {name} threshold reaches the precision {wanted:g} on at least {MIN_ALERTS} {rows}: "
        f"it is at least the default {DEFAULTS[name]:g}"
    )
