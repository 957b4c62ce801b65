"""Detects shifts of a model's mean score with ADWIN, as soon as they are certain. Pure.

River's ADWIN takes one value at a time. It gets the mean of every `GROUP` consecutive scores, which
costs a sixteenth and is less skewed than single scores, nearly all of which are close to 0. Larger
groups would detect less, because ADWIN's bound has a term in 1 / values.
Source: Bifet and Gavaldà, Learning from time-changing data with adaptive windowing (2007).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from river.drift import ADWIN

from monitor.observe.cells import Floats

GROUP: Final = 16
DELTA: Final = 0.0005
"""Chance of a false alarm at each cut, in river's terms."""


class ScoreShift:
    """Watches the scores of one model."""

    def __init__(self) -> None:
        self._adwin = ADWIN(delta=DELTA)
        self._rest = np.zeros(0)
        self.shifts = 0
        self.last_ms = 0
        """Time of the newest shift, 0 before the first."""

    @property
    def mean(self) -> float:
        """Mean of ADWIN's present window, in which it sees no shift."""
        return float(self._adwin.estimation)

    def add(self, scores: Floats, now_ms: int) -> None:
        """Add scores in their order; NaN is left out."""
        joined = np.concatenate([self._rest, scores[~np.isnan(scores)]])
        whole = len(joined) // GROUP * GROUP
        self._rest = joined[whole:]
        for mean in joined[:whole].reshape(-1, GROUP).mean(axis=1).tolist():
            self._adwin.update(mean)
            if self._adwin.drift_detected:
                self.shifts += 1
                self.last_ms = now_ms
