"""Alerts: rules as data over named figures, with hysteresis and grouping. Pure.

A rule watches one figure for many subjects (models, features, topics). A subject is raised after
`hold` evaluations in a row beyond the bound, and cleared once it is back within `clear`. All raised
subjects of a rule share one alert. It is written when the first subject is raised, at most every
`group_ms` when more join, every `repeat_ms` while it lasts, and a last time when it is resolved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from schemas.records import Alert

SERVICE: Final = "monitor"
Severity = Literal["INFO", "WARNING", "CRITICAL"]
FigureValues = Mapping[str, Mapping[str, float]]
"""Figure → subject → value; NaN means unknown now, a missing subject no longer exists."""
NOTES: Final = ("state", "bound")
"""Keys of an alert's detail that are not subjects."""
MINUTE: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Values above `bound` are bad, or below it if not `above`; `clear` is on the good side."""

    name: str
    severity: Severity
    figure: str
    bound: float
    clear: float
    above: bool = True
    hold: int = 3
    group_ms: int = 10 * MINUTE
    repeat_ms: int = 6 * 60 * MINUTE
    text: str = ""

    def __post_init__(self) -> None:
        """Check that `clear` is not beyond `bound`."""
        if (self.clear > self.bound) if self.above else (self.clear < self.bound):
            raise ValueError(f"{self.name}: clear {self.clear} is beyond bound {self.bound}")

    def is_bad(self, value: float) -> bool:
        """Return whether a value is beyond the bound."""
        return value > self.bound if self.above else value < self.bound

    def is_good(self, value: float) -> bool:
        """Return whether a value is back within `clear`."""
        return value <= self.clear if self.above else value >= self.clear


@dataclass(slots=True)
class _State:
    held: dict[str, int] = field(default_factory=dict)
    raised: dict[str, float] = field(default_factory=dict)
    alerted: set[str] = field(default_factory=set)
    alerted_at: int = 0


STATES: Final = ("raised", "grown", "repeated", "resolved")
"""States of an alert, as its detail carries them."""


class Alerts:
    """The rules and the subjects that are raised now."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._states = {rule.name: _State() for rule in rules}

    def raised(self, rule: str) -> dict[str, float]:
        """Return the raised subjects of a rule with their values."""
        return dict(self._states[rule].raised)

    def forget(self, rule: str) -> None:
        """Clear a rule whose reference has gone; the next evaluation writes the resolved alert."""
        self._states[rule].held.clear()
        self._states[rule].raised.clear()

    def restore(self, written: Sequence[Alert]) -> None:
        """Continue where an earlier process stopped, from the alerts that it wrote, in order."""
        for alert in written:
            state = self._states.get(alert["rule"])
            if state is None or alert["service"] != SERVICE:
                continue
            if alert["detail"].get("state") == "resolved":
                self._states[alert["rule"]] = _State()
                continue
            subjects = {
                name: float(value)
                for name, value in alert["detail"].items()
                if name not in NOTES
            }  # fmt: skip
            state.raised, state.alerted = subjects, set(subjects)
            state.alerted_at = alert["occurred_at"]

    def evaluate(self, figures: FigureValues, now_ms: int) -> list[Alert]:
        """Return the alerts to write now. Call it at regular intervals."""
        return [
            alert
            for rule in self.rules
            if (alert := self._evaluate(rule, figures.get(rule.figure, {}), now_ms)) is not None
        ]

    def _evaluate(self, rule: Rule, values: Mapping[str, float], now_ms: int) -> Alert | None:
        state = self._states[rule.name]
        for subject in list(state.held.keys() | state.raised.keys()):
            if subject not in values:
                state.held.pop(subject, None)
                state.raised.pop(subject, None)
        for subject, value in values.items():
            if math.isnan(value):
                continue
            if subject in state.raised:
                state.raised[subject] = value
                if rule.is_good(value):
                    del state.raised[subject]
            elif rule.is_bad(value):
                state.held[subject] = state.held.get(subject, 0) + 1
                if state.held[subject] >= rule.hold:
                    state.raised[subject] = value
                    del state.held[subject]
            else:
                state.held.pop(subject, None)
        return self._next_alert(rule, state, now_ms)

    def _next_alert(self, rule: Rule, state: _State, now_ms: int) -> Alert | None:
        if not state.raised:
            if not state.alerted:
                return None
            gone, state.alerted = sorted(state.alerted), set()
            state.alerted_at = now_ms
            return _alert(rule, "resolved", dict.fromkeys(gone, math.nan), now_ms)
        since = now_ms - state.alerted_at
        joined = not state.raised.keys() <= state.alerted
        if not state.alerted:
            kind = "raised"
        elif joined and since >= rule.group_ms:
            kind = "grown"
        elif since >= rule.repeat_ms:
            kind = "repeated"
        else:
            return None
        state.alerted, state.alerted_at = set(state.raised), now_ms
        return _alert(rule, kind, state.raised, now_ms)


def _alert(rule: Rule, state: str, subjects: Mapping[str, float], now_ms: int) -> Alert:
    worst = sorted(subjects.items(), key=lambda item: item[1], reverse=rule.above)
    detail = {name: f"{value:.6g}" for name, value in worst if not math.isnan(value)}
    named = [name if math.isnan(value) else f"{name} {value:.3g}" for name, value in worst[:5]]
    more = f" and {len(worst) - 5} more" if len(worst) > 5 else ""
    side = "above" if rule.above else "below"
    what = rule.text or rule.figure.replace("_", " ")
    summary = (
        f"resolved: {what}: {', '.join(named)}{more}"
        if state == "resolved"
        else f"{what} {side} {rule.bound:g}: {', '.join(named)}{more}"
    )
    return {
        "rule": rule.name,
        "severity": "INFO" if state == "resolved" else rule.severity,
        "summary": summary,
        "detail": {"state": state, "bound": f"{rule.bound:g}", **detail},
        "service": SERVICE,
        "occurred_at": now_ms,
    }
