"""A light adjustment of a model's log-odds that is linear in a few inputs. Pure.

It belongs to one model: a copy of that model's bundle carries it as adjustment.json. The online
learner (`trainer.online.learner`) fits it, and `scorer.model.bundle` applies it before the
calibration.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.features import ANOMALY_FEATURE, NAMES

FILE: Final = "adjustment.json"
FORMAT: Final = 1
COLUMNS: Final = (*NAMES, ANOMALY_FEATURE)
MAX_BOUND: Final = 10.0
MAX_NUMBER: Final = 1e9
"""Largest weight, mean and scale, and reciprocal of the smallest scale; sums stay finite."""
MIN_PROBABILITY: Final = 2.0**-24
"""Probabilities are clipped to this distance from 0 and 1; above 1 - 2**-24 a float32 is 1."""
Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A correction of the log-odds of the model with the id `base`, clipped to ± `bound`:

    champion · log-odds + intercept + Σ weights · (`squeezed`(feature) − means) / scales.

    A missing feature counts as its mean. `features` names m of the 71 columns; means, scales and
    weights are float64[m]. `version` increases by one each time; `created_at` is in ms.
    """

    base: str
    version: int
    created_at: int
    bound: float
    champion: float
    intercept: float
    features: tuple[str, ...]
    means: Floats
    scales: Floats
    weights: Floats
    columns: npt.NDArray[np.int64] = field(init=False, repr=False)
    """Positions of the features among the 71 inputs."""

    def __post_init__(self) -> None:
        """Raise ValueError if the adjustment cannot be applied."""
        count = len(self.features)
        unknown = set(self.features) - set(COLUMNS)
        if unknown or len(set(self.features)) != count:
            raise ValueError(f"unknown or repeated features: {sorted(unknown or self.features)}")
        if any(each.shape != (count,) for each in (self.means, self.scales, self.weights)):
            raise ValueError(f"means, scales and weights do not fit {count} features")
        numbers = [self.champion, self.intercept, *self.means, *self.scales, *self.weights]
        if not (np.abs(numbers) <= MAX_NUMBER).all() or not (self.scales >= 1 / MAX_NUMBER).all():
            raise ValueError(
                f"the numbers must be finite, at most {MAX_NUMBER:g}, and the scales positive"
            )
        if not 0.0 < self.bound <= MAX_BOUND:
            raise ValueError(f"the bound {self.bound} is not above 0 and at most {MAX_BOUND:g}")
        places = np.array([COLUMNS.index(name) for name in self.features], np.int64)
        object.__setattr__(self, "columns", places)

    def added(self, inputs: Matrix, log_odds: Floats) -> Floats:
        """Return the correction of `log_odds` (float64[n]) for inputs float32[n, 71]."""
        total = self._parts(inputs).sum(axis=1) + self.intercept + self.champion * log_odds
        bounded: Floats = np.minimum(np.maximum(total, -self.bound), self.bound)
        return bounded

    def adjusted(self, inputs: Matrix, probability: Matrix) -> Matrix:
        """Return the base model's `probability`, float32[n], adjusted for inputs float32[n, 71]."""
        before = log_odds(probability)
        after = before + self.added(inputs, before)
        result: Matrix = (1.0 / (1.0 + np.exp(-after))).astype(np.float32)
        return result

    def contributions(self, inputs: Matrix, probability: Matrix, base: Floats) -> Floats:
        """Return each column's contribution to the adjusted model's log-odds, float64[n, 71].

        `base` holds the contributions to the base model's log-odds. The term for the log-odds
        themselves is shared among the columns that contributed to them; where the bound clips the
        sum, all parts shrink in proportion.
        """
        parts = self.champion * base
        parts[:, self.columns] += self._parts(inputs)
        before = log_odds(probability)
        total = self._parts(inputs).sum(axis=1) + self.intercept + self.champion * before
        share = np.minimum(1.0, self.bound / np.maximum(np.abs(total), 1e-300))
        result: Floats = base + parts * share[:, None]
        return result

    def _parts(self, inputs: Matrix) -> Floats:
        """Return each feature's term of the sum, float64[n, m]."""
        scaled = squeezed(inputs[:, self.columns])
        scaled -= self.means
        scaled /= self.scales
        scaled *= self.weights
        np.copyto(scaled, 0.0, where=np.isnan(scaled))
        return scaled

    def document(self) -> str:
        """Return the text of adjustment.json."""
        return json.dumps(
            {
                "format": FORMAT,
                "base": self.base,
                "version": self.version,
                "created_at": self.created_at,
                "bound": self.bound,
                "champion": self.champion,
                "intercept": self.intercept,
                "features": list(self.features),
                "means": self.means.tolist(),
                "scales": self.scales.tolist(),
                "weights": self.weights.tolist(),
            },
            indent=1,
        )


def parse(data: bytes) -> Adjustment:
    """Parse the content of adjustment.json.

    Raises:
        ValueError, LookupError, TypeError: the content is malformed or cannot be applied.
    """
    document: dict[str, Any] = json.loads(data)
    if document["format"] != FORMAT:
        raise ValueError(f"the adjustment has format {document['format']}, expected {FORMAT}")
    return Adjustment(
        base=str(document["base"]),
        version=int(document["version"]),
        created_at=int(document["created_at"]),
        bound=float(document["bound"]),
        champion=float(document["champion"]),
        intercept=float(document["intercept"]),
        features=tuple(str(name) for name in document["features"]),
        means=np.array(document["means"], np.float64),
        scales=np.array(document["scales"], np.float64),
        weights=np.array(document["weights"], np.float64),
    )


def log_odds(probability: npt.NDArray[Any]) -> Floats:
    """Return the log-odds of probabilities, float64[n]; finite for 0 and 1, too.

    >>> log_odds(np.array([0.5, 0.0])).round(2).tolist()
    [0.0, -16.64]
    """
    exact = np.minimum(
        np.maximum(probability.astype(np.float64), MIN_PROBABILITY), 1.0 - MIN_PROBABILITY
    )
    result: Floats = np.log(exact / (1.0 - exact))
    return result


def squeezed(values: npt.NDArray[Any]) -> Floats:
    """Return sign(x) · log(1 + |x|), float64: sums and counts have tails too long to be linear."""
    exact = values.astype(np.float64)
    result: Floats = np.copysign(np.log1p(np.abs(exact)), exact)
    return result
