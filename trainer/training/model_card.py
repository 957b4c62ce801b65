"""The model card: a model's purpose, data, quality and limits. Pure.

After Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from schemas.features import DAY, FINGERPRINT
from trainer.dataset.dataset import Dataset
from trainer.evaluation.gates import GateReport
from trainer.evaluation.resampling import Interval
from trainer.evaluation.slices import SliceReport
from trainer.training.batch_training import Holdout, Trained, TrainOptions

SHOWN_FEATURES: Final = 15
_MEANING: Final = {
    "auc": "AUC",
    "average_precision": "average precision",
    "block_precision": "precision of blocked transactions",
    "block_recall": "frauds blocked (recall)",
    "review_precision": "precision of blocked or reviewed transactions",
    "review_recall": "frauds blocked or reviewed (recall)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """Everything that the card says."""

    model_id: str
    written_at: int
    data: Dataset
    provenance: Mapping[str, Any]
    options: TrainOptions
    trained: Trained
    holdout: Holdout
    intervals: Mapping[str, Interval]
    slices: Sequence[SliceReport]
    features: Sequence[tuple[str, float]]
    gates: GateReport


def model_card(facts: CardFacts) -> str:
    """Return the card in Markdown."""
    parts = [_what(facts), _data(facts), _how(facts), _metrics(facts), _slices(facts)]
    return "\n\n".join([*parts, _features(facts), _gates(facts), _limits(facts)]) + "\n"


def _what(facts: CardFacts) -> str:
    return f"""# Model {facts.model_id}

Scores card transactions: the calibrated probability that one is fraud, from the
{facts.trained.booster.num_features()} features of catalogue `{FINGERPRINT.hex()}`. Gradient boosted
trees (XGBoost), an isolation forest as one of the inputs, isotonic calibration. A score above
{facts.trained.thresholds["block"]:.4f} is blocked, above {facts.trained.thresholds["review"]:.4f}
reviewed, unless the policy in force has thresholds of its own. Written {_day(facts.written_at)}."""


def _data(facts: CardFacts) -> str:
    data, test = facts.data, facts.holdout.rows
    rows = [
        ("transactions", f"{len(data):,}"),
        ("frauds", f"{int(data.fraud.sum()):,} ({float(data.fraud.mean()):.3%})"),
        ("event time", f"{_day(data.time[0])} to {_day(data.time[-1])}"),
        ("trained on", f"{facts.trained.metrics['train_rows']:,.0f} transactions, {_which(data)}"),
        (
            "measured on",
            f"{test.stop - test.start:,} transactions, from {_day(data.time[test][0])}",
        ),
        ("label delay between", f"{facts.options.gap_ms / DAY:g} days"),
        *((key, f"`{value}`") for key, value in facts.provenance.items()),
    ]
    return "## Data\n\n" + _table(("", ""), rows)


def _which(data: Dataset) -> str:
    """Return which transactions a model was trained on."""
    if not data.immature:
        return "the oldest"
    since = _day(data.time[data.mature])
    return (
        f"the oldest, and {data.immature:,} immature ones from {since} on, before all their labels "
        "had arrived"
    )


def _how(facts: CardFacts) -> str:
    rows = [(key, str(value)) for key, value in facts.trained.parameters.items()]
    return "## Hyper-parameters\n\n" + _table(("parameter", "value"), rows)


def _metrics(facts: CardFacts) -> str:
    rows = [
        (_MEANING[key], f"{value.value:.4f}", f"{value.low:.4f} to {value.high:.4f}")
        for key, value in facts.intervals.items()
    ]
    rows.append(("Brier score", f"{facts.trained.metrics['brier']:.5f}", ""))
    head = ("on the holdout", "value", "95% interval (bootstrap)")
    return "## Metrics\n\n" + _table(head, rows)


def _slices(facts: CardFacts) -> str:
    rows = [
        (
            group.slice, group.group, f"{group.rows:,}", f"{group.frauds:,}",
            *(_share(rate) for rate in (
                group.false_positive_rate, group.recall, group.precision, group.alert_rate,
            )),
        )
        for report in facts.slices
        for group in report.groups
    ]  # fmt: skip
    head = (
        "slice", "group", "rows", "frauds",
        "false-positive rate", "recall", "precision", "alert rate",
    )  # fmt: skip
    return "## Slices\n\nAt the review threshold.\n\n" + _table(head, rows)


def _features(facts: CardFacts) -> str:
    rows = [(f"`{name}`", f"{value:.3f}") for name, value in facts.features[:SHOWN_FEATURES]]
    return (
        "## Features that count most\n\nMean absolute SHAP value (log-odds) over a sample, half of "
        "it frauds; drawn in shap.png.\n\n" + _table(("feature", "mean |SHAP|"), rows)
    )


def _gates(facts: CardFacts) -> str:
    rows = [
        (verdict.gate, "passed" if verdict.passed else "**failed**", verdict.text)
        for verdict in facts.gates.verdicts
    ]
    return "## Gates\n\n" + _table(("gate", "", "figure and bound"), rows)


def _limits(facts: CardFacts) -> str:
    few = int(facts.holdout.fraud.sum())
    rest = f"The metrics rest on {few:,} frauds in {len(facts.holdout.fraud):,} transactions"
    if facts.data.immature:
        which = (
            f"{rest} between the oldest and the immature ones, from both of which the model has "
            "learned; they do not speak of later patterns of fraud."
        )
        calibrated = (
            "on the immature transactions, which follow the holdout (if they hold few frauds, also "
            "on the newest before it)"
        )
    else:
        which = (
            f"{rest} that follow the training data; they do not speak of later patterns of fraud."
        )
        calibrated = "on the transactions before the holdout"
    limits = [
        which,
        "Frauds that were not reported by the end of the data count as genuine.",
        f"The score is calibrated {calibrated}; where the share of fraud changes, thresholds no "
        "longer have the precision for which they were chosen.",
        "Groups with few transactions are joined as `other`; their rates are not judged alone.",
        "An aid to a decision about one transaction; not to be used to rate people.",
        *facts.trained.notes,
    ]
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _share(value: float) -> str:
    return "–" if value != value else f"{value:.3%}"


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(int(time_ms) / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
