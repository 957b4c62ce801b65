"""The online learner: river's logistic regression over a few inputs and the champion's log-odds.

Test-then-train (prequential; Dawid 1984, Gama et al. 2013): each row is scored before it is learned
from. It publishes what it has learned as an `Adjustment`, whose scores agree with its own to 1e-9.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from river import linear_model, optim, preprocessing

from scorer.model.adjustment import COLUMNS, Adjustment, squeezed

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
FEATURES: Final = (
    "amount", "amount_is_round", "channel_code", "card_tx_count_5m", "transaction_velocity_1h",
    "card_tx_count_24h", "card_amount_sum_1h", "card_amount_sum_24h", "card_amount_ratio_30d",
    "amount_deviation_30d", "card_amount_rank_30d", "card_velocity_ratio_24h_30d",
    "card_seconds_since_last", "card_distinct_merchants_1h", "card_merchant_is_new",
    "device_fingerprint_new", "card_mcc_is_new", "card_country_is_new", "ip_country_mismatch",
    "card_small_tx_count_1h", "merchant_age_days", "merchant_tx_count_24h",
    "merchant_amount_deviation_30d", "merchant_risk_score", "device_age_days",
    "device_distinct_cards_24h", "card_speed_kmh", "user_behavior_anomaly_score",
)  # fmt: skip
"""Chosen by measurement: see docs/online.md."""
PLACES: Final = np.array([COLUMNS.index(name) for name in FEATURES], np.int64)
CHAMPION: Final = "champion"
"""The input that is the champion's log-odds, over `CHAMPION_SCALE`."""
CHAMPION_SCALE: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerOptions:
    """`rate` is the step of the gradient descent; `bound` limits the adjustment, in log-odds."""

    rate: float = 0.01
    bound: float = 2.0


@dataclass(slots=True)
class Learner:
    """Begins as the champion itself: weight 1 for its log-odds, 0 for everything else."""

    options: LearnerOptions = field(default_factory=LearnerOptions)
    learned: int = 0
    _scaler: Any = field(init=False)
    _model: Any = field(init=False)

    def __post_init__(self) -> None:
        """Make river's parts."""
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self.learned = 0
        self._scaler = preprocessing.StandardScaler()
        self._model = linear_model.LogisticRegression(optim.SGD(self.options.rate))
        self._model._weights[CHAMPION] = CHAMPION_SCALE

    def learn(
        self,
        inputs: Matrix,
        log_odds: Floats,
        fraud: npt.NDArray[np.bool_],
        weight: Floats,
    ) -> Floats:
        """Return adjusted log-odds float64[n], each from before its row was learned.

        `inputs` float32[n, 71] and `log_odds` float64[n] are the champion's; rows in the order in
        which their labels became known.
        """
        values = squeezed(inputs[:, PLACES])
        raw = np.empty(len(values))
        scale, learn_scale = self._scaler.transform_one, self._scaler.learn_one
        raw_dot, learn = self._model._raw_dot_one, self._model.learn_one
        rows = zip(
            values.tolist(), (log_odds / CHAMPION_SCALE).tolist(), fraud.tolist(), weight.tolist(),
            strict=True,
        )  # fmt: skip
        for row, (numbers, champion, is_fraud, counts) in enumerate(rows):
            present = {
                name: number
                for name, number in zip(FEATURES, numbers, strict=True)
                if number == number  # NaN is missing
            }
            scaled = scale(present)
            scaled[CHAMPION] = champion
            raw[row] = raw_dot(scaled)
            learn_scale(present)
            learn(scaled, is_fraud, counts)
        self.learned += len(raw)
        bound = self.options.bound
        adjusted: Floats = log_odds + np.clip(raw - log_odds, -bound, bound)
        return adjusted

    def probability(self, values: Floats, log_odds: float) -> float:
        """Return river's own prediction for one row of squeezed FEATURES, without the bound."""
        scaled = self._scaler.transform_one(
            {name: v for name, v in zip(FEATURES, values.tolist(), strict=True) if v == v}
        )
        scaled[CHAMPION] = log_odds / CHAMPION_SCALE
        return float(self._model.predict_proba_one(scaled)[True])

    def adjustment(self, base: str, version: int, created_at: int) -> Adjustment:
        """Return the weights as a bundle carries them; arguments as `Adjustment`."""
        weights = self._model.weights
        spread = np.array([self._scaler.vars.get(name, 0.0) for name in FEATURES]) ** 0.5
        known = np.array([weights.get(name, 0.0) for name in FEATURES])
        return Adjustment(
            base=base,
            version=version,
            created_at=created_at,
            bound=self.options.bound,
            champion=weights[CHAMPION] / CHAMPION_SCALE - 1.0,
            intercept=float(self._model.intercept),
            features=FEATURES,
            means=np.array([self._scaler.means.get(name, 0.0) for name in FEATURES]),
            scales=np.where(spread > 0, spread, 1.0),
            weights=np.where(spread > 0, known, 0.0),
        )

    def state(self) -> dict[str, Any]:
        """Return everything that it has learned, for JSON."""
        return {
            "learned": self.learned,
            "features": list(FEATURES),
            "counts": dict(self._scaler.counts),
            "means": dict(self._scaler.means),
            "vars": dict(self._scaler.vars),
            "weights": self._model.weights,
            "intercept": float(self._model.intercept),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; raises KeyError, ValueError if it is of other inputs."""
        if state["features"] != list(FEATURES):
            raise ValueError("the state is of other features")
        self.restart()
        self._scaler = preprocessing.StandardScaler._from_state(
            state["counts"], state["means"], state["vars"]
        )
        for name, weight in state["weights"].items():
            self._model._weights[name] = weight
        self._model.intercept = state["intercept"]
        self.learned = state["learned"]
