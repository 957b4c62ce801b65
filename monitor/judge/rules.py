"""The alert rules of the monitor, and the figures that they watch."""

from __future__ import annotations

from typing import Final

from monitor.judge.alerts import Rule

LOW_PRECISION: Final = "low_precision"
FEATURE_DRIFT: Final = "feature_drift"
SCORE_DRIFT: Final = "score_drift"
MISSED_FRAUDS: Final = "missed_frauds"
LABELS_STOPPED: Final = "labels_stopped"


def default_rules(*, min_precision: float = 0.85, max_psi: float = 0.25) -> tuple[Rule, ...]:
    """Return the rules; `figures.Figures` computes their figures."""
    return (
        Rule(
            name=LOW_PRECISION, severity="CRITICAL", figure="alert_precision", above=False,
            bound=min_precision, clear=min(min_precision + 0.02, 1.0), hold=2,
            text="precision of REVIEW and BLOCK",
        ),
        Rule(
            name=FEATURE_DRIFT, severity="WARNING", figure="feature_psi", bound=max_psi,
            clear=0.8 * max_psi, text="drift (PSI) of features",
        ),
        Rule(
            name=SCORE_DRIFT, severity="WARNING", figure="score_psi", bound=max_psi,
            clear=0.8 * max_psi, text="drift (PSI) of the scores",
        ),
        Rule(
            name=MISSED_FRAUDS, severity="CRITICAL", figure="missed_frauds", bound=6.0, clear=2.0,
            hold=2, text="approved frauds above their usual number, in standard deviations,",
        ),
        Rule(
            name="score_shift", severity="WARNING", figure="score_shifts", bound=0.5, clear=0.5,
            hold=1, text="shifts of the mean score within the hour",
        ),
        Rule(
            name="missing_features", severity="WARNING", figure="missing_growth", bound=0.2,
            clear=0.1, text="growth of the missing rate",
        ),
        Rule(
            name="decisions_stopped", severity="CRITICAL", figure="undecided_seconds", bound=60.0,
            clear=10.0, text="seconds for which vectors have had no decision",
        ),
        Rule(
            name="scorer_behind", severity="WARNING", figure="positions_behind", bound=50_000.0,
            clear=5_000.0, text="transactions that the stage is behind",
        ),
        Rule(
            name=LABELS_STOPPED, severity="WARNING", figure="label_silence_hours", bound=24.0,
            clear=1.0, hold=1, text="hours without a label",
        ),
        Rule(
            name="labels_unmatched", severity="WARNING", figure="unmatched_share", bound=0.5,
            clear=0.3, text="share of the last hour's labels whose decision is no longer kept",
        ),
    )  # fmt: skip
