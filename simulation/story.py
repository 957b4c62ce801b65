"""The report of a run: as JSON, and as tables for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from schemas.features import DAY, HOUR
from simulation.learning_loop import LearningLoop
from simulation.share import growth
from simulation.simulation_plan import SimulationScenario

EVENTS = frozenset(
    {
        "onset", "alert_raised", "retrain_request", "retrain_started", "retrain_failed", "refused",
        "shadow", "canary", "champion", "rolled_back", "rollback_not_done", "labels_return",
    }
)  # fmt: skip
"""Events that the table shows."""


def onset_of(loop: LearningLoop) -> int:
    """Return the moment from which hours count: the first fraud of a new pattern, or the event."""
    plan, world = loop.plan, loop.world
    if plan.scenario == SimulationScenario.NEW_PATTERN and world.pattern.any():
        return int(world.time[world.pattern.argmax()])
    return plan.onset_ms


def report(loop: LearningLoop) -> dict[str, Any]:
    """Return the figures of a run. Rates are of genuine transactions; None: nothing to count."""
    onset, plan, tally = onset_of(loop), loop.plan, loop.tally
    detected = loop.detected_at
    day_after = min(onset + DAY, plan.end)
    pattern = plan.scenario == SimulationScenario.NEW_PATTERN
    before = tally.genuine_alerted(plan.start, onset)
    after = tally.genuine_alerted(day_after, plan.end)
    return {
        "learning": loop.learning,
        "onset_ms": onset,
        "detected_hours": None if detected is None else round((detected - onset) / HOUR, 2),
        "rolled_back_after": loop.rolled_back_after,
        "alert_rate_before": before.value,
        "alert_rate_after": after.value,
        "alert_rate_growth": growth(before, after),
        "genuine_alerted": {"before": before.document(), "after": after.document()},
        "recall_after_24h": tally.recall(day_after, onset + 2 * DAY, pattern=pattern),
        "recall_to_end": tally.recall(day_after, plan.end, pattern=pattern),
        "recall_of_known_before": tally.recall(plan.start, onset, pattern=False),
        "recall_of_known_after": tally.recall(day_after, plan.end, pattern=False),
        "precision_before": tally.precision(plan.start, onset),
        "precision_first_day": tally.precision(onset, day_after),
        "precision_after": tally.precision(max(plan.end - 3 * DAY, day_after), plan.end),
        "recall_by_hour": {
            hour: round(cell["recall"], 4) for hour, cell in tally.recall_by_hour(onset).items()
        },
        "frauds_by_hour": {
            hour: cell["frauds"] for hour, cell in tally.recall_by_hour(onset).items()
        },
        "precision_by_hour": tally.precision_by_hour(onset, plan.end),
        "timeline": loop.timeline,
    }


def tables(found: dict[str, Any]) -> list[Table]:
    """Return the timeline and the figures, those without learning beside them."""
    timeline = Table(title=f"{found['scenario']}: what happened", title_justify="left")
    for column in ("at", "event", "detail"):
        timeline.add_column(column, no_wrap=column != "detail")
    for each in found["timeline"]:
        if each["event"] in EVENTS:
            timeline.add_row(each["at"][:16].replace("T", " "), each["event"], each["detail"])
    other = found.get("without_learning")
    figures = Table(title="figures", title_justify="left")
    figures.add_column("")
    figures.add_column("learning" if found["learning"] else "no learning", justify="right")
    if other is not None:
        figures.add_column("no learning", justify="right")
    for name, text in SHOWN.items():
        cells = [_text(name, each[name]) for each in (found, other) if each is not None]
        if any(cell != "-" for cell in cells):
            figures.add_row(text, *cells)
    return [timeline, figures]


SHOWN = {
    "detected_hours": "hours from onset to the first sign",
    "recall_after_24h": "recall, 24 h to 48 h after onset",
    "recall_to_end": "recall, 24 h after onset to the end",
    "recall_of_known_before": "recall of known fraud before",
    "recall_of_known_after": "recall of known fraud after",
    "precision_before": "precision of alerts before",
    "precision_first_day": "precision on the first day",
    "precision_after": "precision of the last three days",
    "alert_rate_before": "genuine alerted before",
    "alert_rate_after": "genuine alerted after",
    "alert_rate_growth": "times as many (95% interval)",
    "rolled_back_after": "rolled back after",
}


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "rolled_back_after":
        return f"{value['decisions']} decisions, {value['minutes']:.0f} min"
    if name == "alert_rate_growth":
        return f"{value['value']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
    if name == "detected_hours":
        return f"{value:.1f}"
    return f"{value:.4%}" if name.startswith("alert_rate_") else f"{value:.1%}"
