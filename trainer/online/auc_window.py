"""Prequential AUC of the learner and of the champion over a sliding window, and which is better.

The window holds the last frauds and the last genuine rows whose labels became known. Genuine rows
are a uniform sample, so AUC needs no weights. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trainer.evaluation.resampling import Interval, auc, auc_difference

Floats = npt.NDArray[np.float64]
FRAUDS: Final = 1_000
GENUINE: Final = 30_000
REPLICATES: Final = 100


@dataclass(slots=True)
class _Ring:
    """The last pairs of log-odds (learner, champion) of one class."""

    pairs: Floats
    added: int = 0

    def add(self, pairs: Floats) -> None:
        kept = pairs[-len(self.pairs) :]
        places = (self.added + len(pairs) - len(kept) + np.arange(len(kept))) % len(self.pairs)
        self.pairs[places] = kept
        self.added += len(pairs)

    @property
    def held(self) -> Floats:
        return self.pairs[: self.added]


@dataclass(frozen=True, slots=True)
class AucComparison:
    """AUC of both on the same rows, and the difference with its paired 95 % interval."""

    frauds: int
    genuine: int
    online: float
    champion: float
    difference: Interval

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "frauds": self.frauds,
            "genuine": self.genuine,
            "online_auc": self.online,
            "champion_auc": self.champion,
            "difference": self.difference.value,
            "low": self.difference.low,
            "high": self.difference.high,
        }


class AucWindow:
    """Bounded: `frauds` and `genuine` rows at most."""

    def __init__(self, frauds: int = FRAUDS, genuine: int = GENUINE) -> None:
        self._rings = {True: _Ring(np.zeros((frauds, 2))), False: _Ring(np.zeros((genuine, 2)))}

    def add(self, online: Floats, champion: Floats, fraud: npt.NDArray[np.bool_]) -> None:
        """Note n rows: log-odds of both, made before the label was learned."""
        pairs = np.column_stack([online, champion])
        for label, ring in self._rings.items():
            ring.add(pairs[fraud == label])

    def clear(self) -> None:
        """Forget every row."""
        for ring in self._rings.values():
            ring.added = 0

    @property
    def frauds(self) -> int:
        """Frauds held."""
        return len(self._rings[True].held)

    def compare(self) -> AucComparison | None:
        """Return which ranks better; None without both classes. Takes about 0.1 s."""
        frauds, genuine = self._rings[True].held, self._rings[False].held
        if not len(frauds) or not len(genuine):
            return None
        pairs = np.concatenate([frauds, genuine])
        fraud = np.arange(len(pairs)) < len(frauds)
        return AucComparison(
            frauds=len(frauds),
            genuine=len(genuine),
            online=auc(frauds[:, 0], genuine[:, 0]),
            champion=auc(frauds[:, 1], genuine[:, 1]),
            difference=auc_difference(pairs[:, 0], pairs[:, 1], fraud, replicates=REPLICATES),
        )

    def state(self) -> dict[str, Any]:
        """Return arrays and numbers from which `restore` makes it again."""
        return {
            f"{name}_{part}": value
            for name, ring in (("frauds", self._rings[True]), ("genuine", self._rings[False]))
            for part, value in (("pairs", ring.pairs), ("added", ring.added))
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; ValueError if it is of another size."""
        for name, ring in (("frauds", self._rings[True]), ("genuine", self._rings[False])):
            pairs = state[f"{name}_pairs"]
            if pairs.shape != ring.pairs.shape:
                raise ValueError(f"a window of {len(pairs)} {name}")
            ring.pairs[:] = pairs
            ring.added = int(state[f"{name}_added"])


@dataclass(slots=True)
class AdjustmentRule:
    """Decides whether the adjustment is used, with hysteresis.

    It is used once it was better by `margin` for `patience` comparisons in a row, each with an
    interval above 0 and at least `frauds` frauds. It is dropped after as many differences below 0.
    """

    margin: float = 0.002
    frauds: int = 200
    patience: int = 2
    better: bool = False
    _streak: int = field(default=0)

    def judge(self, comparison: AucComparison | None) -> bool:
        """Take in a comparison and return whether the adjustment is to be used."""
        if comparison is None or comparison.frauds < self.frauds:
            return self.better
        difference = comparison.difference
        if self.better:
            against = difference.value < 0
        else:
            against = difference.low > 0 and difference.value >= self.margin
        self._streak = self._streak + 1 if against else 0
        if self._streak >= self.patience:
            self.better, self._streak = not self.better, 0
        return self.better

    def restart(self) -> None:
        """Start over as not better."""
        self.better, self._streak = False, 0
