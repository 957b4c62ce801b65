"""The plan of a simulation: its scenario, its length, and the day of its event. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from schemas.errors import ConfigurationError
from schemas.features import DAY, HOUR, MINUTE
from trainer.registry.advance import AdvanceRules
from trainer.training.thresholds import MAX_FALSE, PrecisionTargets


class SimulationScenario(StrEnum):
    """What happens at the onset."""

    NEW_PATTERN = "new-pattern"
    DRIFT = "drift"
    BAD_MODEL = "bad-model"
    LABEL_OUTAGE = "label-outage"


SIGNS: Final = {
    SimulationScenario.NEW_PATTERN: frozenset({"missed_frauds", "low_precision", "score_drift"}),
    SimulationScenario.DRIFT: frozenset(
        {"low_precision", "missed_frauds", "score_drift", "feature_drift"}
    ),
    SimulationScenario.BAD_MODEL: frozenset({"model_rolled_back"}),
    SimulationScenario.LABEL_OUTAGE: frozenset({"labels_stopped"}),
}
"""Alerts by which a scenario is noticed."""
WARM_UP_DAYS: Final = 30
"""Before anything is kept: the engine's longest window fills."""
FIRST_DAY: Final = 20_148
"""2025-03-01, as days since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationPlan:
    """One simulation. Days count from the first one on which models decide.

    Args:
        days: that models decide; `history_days` before them only fill the archive.
        step_ms: event time of one step of everything.
        new_pattern_factor: factor on the usual incidents of the new fraud: it comes as a wave.
        outage_ms: how long labels are withheld.
        fraud_factor: factor on the usual amount of fraud, so that a small world has enough.
        quiet_ms: the monitor's time between two retrain requests.
        daily_ms: time of day of the daily training; None leaves it out.
        labels: labelled alerts by which the monitor judges precision.
        targets: of the thresholds. The alerts' precision lies above the monitor's floor of 0.85.
    """

    scenario: SimulationScenario
    days: int = 30
    history_days: int = 40
    customers: int = 3_000
    fraud_factor: float = 1.0
    seed: int = 7
    onset_day: int | None = None
    step_ms: int = 15 * MINUTE
    label_delay_ms: int = 7 * DAY
    new_pattern_factor: float = 20.0
    outage_ms: int = 4 * DAY
    quiet_ms: int = 6 * HOUR
    labels: int = 30
    daily_ms: int | None = 3 * HOUR
    rounds: int = 150
    canary_share: float = 0.1
    advance: AdvanceRules = field(
        default_factory=lambda: AdvanceRules(
            shadow_ms=HOUR, canary_ms=2 * HOUR, canary_decisions=30, canary_max_ms=6 * HOUR
        )
    )
    targets: PrecisionTargets = field(default_factory=lambda: PrecisionTargets(max_false=MAX_FALSE))

    def __post_init__(self) -> None:
        """Raise ConfigurationError if the onset is not among the days."""
        if self.days < 2 or not 0 < self.onset < self.days:
            raise ConfigurationError(
                f"the onset on day {self.onset} is not among {self.days} days after the first: "
                "give more --days or another --onset-day"
            )

    @property
    def onset(self) -> int:
        """Day of the scenario's event."""
        return max(self.days // 3, 1) if self.onset_day is None else self.onset_day

    @property
    def trains_at(self) -> int | None:
        """Time of the daily training in its day, ms; none beside a bad model: it would end that."""
        return None if self.scenario == SimulationScenario.BAD_MODEL else self.daily_ms

    @property
    def archived_from(self) -> int:
        """When the archive begins, ms."""
        return (FIRST_DAY + WARM_UP_DAYS) * DAY

    @property
    def start(self) -> int:
        """When models begin to decide, ms."""
        return self.archived_from + self.history_days * DAY

    @property
    def onset_ms(self) -> int:
        """Midnight at which the onset day begins, ms."""
        return self.start + self.onset * DAY

    @property
    def end(self) -> int:
        """When it is over, ms."""
        return self.start + self.days * DAY

    @property
    def world_days(self) -> int:
        """Days of the generated world."""
        return WARM_UP_DAYS + self.history_days + self.days
