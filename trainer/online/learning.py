"""Online learning without I/O: vectors and labels in; log-odds, learner and window kept.

vectors → the champion's log-odds → wait for the label → test, then train → window. The live process
and the replay of history feed the same object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.features import DAY
from scorer.model.adjustment import Adjustment, log_odds
from scorer.model.bundle import COLUMNS, Model
from trainer.online.auc_window import AdjustmentRule, AucComparison, AucWindow
from trainer.online.learner import Learner, LearnerOptions
from trainer.online.pending import KnownLabels, Pending

COMPARED: Final = 2_000
"""Newest transactions over which two adjustments are compared."""
MATERIAL: Final = 0.1
"""Mean difference in log-odds from which on a new adjustment is worth publishing."""


@dataclass(slots=True)
class LearningCounts:
    """What became of transactions and labels."""

    transactions: int = 0
    frauds: int = 0
    genuine: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineOptions:
    """`records` transactions wait for their labels; the rest as in the classes that it is for."""

    records: int = 500_000
    label_delay_ms: int = 7 * DAY
    learner: LearnerOptions = field(default_factory=LearnerOptions)
    margin: float = 0.002
    frauds: int = 200


class Online:
    """The learner of one champion; `follow` gives it another. Single-threaded, bounded."""

    def __init__(self, options: OnlineOptions | None = None) -> None:
        self.options = options = options or OnlineOptions()
        self.pending = Pending(options.records, COLUMNS, label_delay_ms=options.label_delay_ms)
        self.learner = Learner(options.learner)
        self.window = AucWindow()
        self.rule = AdjustmentRule(margin=options.margin, frauds=options.frauds)
        self.counts = LearningCounts()
        self.base = ""
        """Model id of the champion, "" before there is one."""
        self._model: Model | None = None

    def follow(self, model: Model) -> None:
        """Learn on top of `model`, its own adjustment left out.

        For another base everything begins anew, but for the transactions that wait for their
        labels: they are scored again, since no training of the new champion knew their labels.
        """
        base = model.adjustment.base if model.adjustment else model.model_id
        self._model = replace(model, adjustment=None)
        if base == self.base:
            return
        self.base = base
        self.learner.restart()
        self.window.clear()
        self.rule.restart()
        held = self.pending.newest(len(self.pending))
        for part in np.array_split(held, len(held) // 10_000 + 1):
            inputs = self.pending.inputs[part]
            self._model.renew(inputs)
            self.pending.inputs[part] = inputs
            self.pending.log_odds[part] = log_odds(self._model.probability(inputs))

    def setback(self) -> None:
        """Let the adjustment prove itself anew: somebody took it out."""
        self.window.clear()
        self.rule.restart()

    def transactions(
        self,
        keys: npt.NDArray[np.uint64],
        vectors: npt.NDArray[np.float32],
        received: npt.NDArray[np.int64],
    ) -> None:
        """Take in n transactions: `schemas.keys.identities`, vectors float32[n, 70], arrival in ms.

        Those that are held already are left out. Without a champion nothing is kept.
        """
        if self._model is None:
            return
        for start in range(0, len(keys), len(self.pending.key)):
            part = slice(start, start + len(self.pending.key))
            new = self.pending.new(keys[part]) + start
            self._learn(self.pending.make_room(len(new)))
            inputs = self._model.inputs(vectors[new])
            odds = log_odds(self._model.probability(inputs))
            self._learn(self.pending.add(keys[new], inputs, odds, received[new]))
            self.counts.transactions += len(new)
        self._learn(self.pending.mature())

    def labels(self, keys: Sequence[int], frauds: Sequence[bool]) -> None:
        """Take in labels, in the order in which they became known."""
        self._learn(self.pending.label(keys, frauds))

    def compare(self) -> AucComparison | None:
        """Compare learner and champion over the window, and let the rule judge."""
        comparison = self.window.compare()
        self.rule.judge(comparison)
        return comparison

    def differs(self, one: Adjustment, other: Adjustment | None) -> bool:
        """Return whether two adjustments differ materially on the newest transactions."""
        if other is None:
            return True
        rows = self.pending.newest(COMPARED)
        inputs, odds = self.pending.inputs[rows], self.pending.log_odds[rows]
        if not len(rows):
            return False
        change = np.abs(one.added(inputs, odds) - other.added(inputs, odds))
        return float(change.mean()) >= MATERIAL

    def state(self) -> dict[str, Any]:
        """Return arrays and JSON values from which `restore` makes it again."""
        return {
            "json": {
                "base": self.base,
                "learner": self.learner.state(),
                "better": self.rule.better,
            },
            **{f"window_{name}": value for name, value in self.window.state().items()},
            **{f"pending_{name}": value for name, value in self.pending.document().items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; `follow` must be called next.

        Raises:
            KeyError, ValueError: it is not such a state, or of other inputs.
        """
        document = state["json"]
        self.learner.restore(document["learner"])
        self.rule.better = bool(document["better"])
        self.window.restore(_part(state, "window_"))
        self.pending.restore(_part(state, "pending_"))
        self.base = document["base"]

    def _learn(self, known: KnownLabels) -> None:
        if not len(known.slots) or not self.pending.ripe:
            return  # before the first delay has passed frauds alone are known: all would look so
        inputs, odds = self.pending.inputs[known.slots], self.pending.log_odds[known.slots]
        adjusted = self.learner.learn(inputs, odds, known.fraud, known.weight)
        self.window.add(adjusted, odds, known.fraud)
        frauds = int(known.fraud.sum())
        self.counts.frauds += frauds
        self.counts.genuine += len(known.fraud) - frauds


def _part(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
