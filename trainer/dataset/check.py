"""The check of a dataset before anything is trained on it: what failed, by figure and bound. Pure.

Rows, classes, missing values, ranges, days without or with too many transactions, ids that come
twice, labels older than their transaction, and leakage: a single feature that separates fraud.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from rich.table import Table

from schemas.features import CATALOGUE, DAY, NAMES, VECTOR_SIZE, Feature
from trainer.dataset.data_bounds import DataBounds
from trainer.dataset.dataset import Dataset
from trainer.evaluation.resampling import auc

MAX_GENUINE: Final = 50_000
"""Genuine rows that leakage is judged by: with the frauds enough for three digits of an AUC."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure against its bounds, both included; None does not bound.

    `why` says where the bound comes from, unless from `bounds`.
    """

    name: str
    subject: str
    figure: float
    low: float | None = None
    high: float | None = None
    why: str = ""

    @property
    def failed(self) -> bool:
        """Whether the figure is out of bounds, or no number."""
        return not (
            (self.low is None or self.figure >= self.low)
            and (self.high is None or self.figure <= self.high)
            and self.figure == self.figure
        )

    @property
    def bound(self) -> str:
        """The bounds as people read them."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"

    def __str__(self) -> str:
        """One line with figure and bound."""
        about = f" of {self.subject}" if self.subject else ""
        why = f" ({self.why})" if self.why else ""
        return f"{self.name}{about} is {self.figure:.6g}, must be {self.bound}{why}"


@dataclass(frozen=True, slots=True)
class DataReport:
    """Every check that was made."""

    rows: int
    frauds: int
    checks: tuple[Check, ...]

    @property
    def failures(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.failed]

    def to_json(self) -> dict[str, Any]:
        """Return what is stored with a training run."""
        return {
            "rows": self.rows,
            "frauds": self.frauds,
            "passed": not self.failures,
            "failures": [_as_json(check) for check in self.failures],
            "checks": [_as_json(check) for check in self.checks],
        }

    def table(self) -> Table:
        """Return the failures and, of each kind of check, the one figure nearest to failing."""
        table = Table(title=f"data check: {self.rows:,} rows, {self.frauds:,} frauds")
        for column in ("check", "of", "figure", "bound", ""):
            table.add_column(column, justify="right" if column == "figure" else "left")
        shown = self.failures
        for name in dict.fromkeys(check.name for check in self.checks):
            some = [check for check in self.checks if check.name == name]
            if not any(check.failed for check in some):
                shown.append(max(some, key=lambda check: check.figure))
        for check in shown:
            verdict = "[red]failed[/red]" if check.failed else "[green]passed[/green]"
            table.add_row(check.name, check.subject, f"{check.figure:.6g}", check.bound, verdict)
        return table


def check(
    data: Dataset,
    bounds: DataBounds | None = None,
    champion_missing: Mapping[str, float] | None = None,
) -> DataReport:
    """Check a dataset; an empty one fails by its rows and is not looked at further.

    `champion_missing` are the shares of missing values by feature in what the champion was trained
    on: a feature that is missing far more often now has lost its source.
    """
    wanted = bounds or DataBounds()
    rows, frauds = len(data), int(data.fraud.sum())
    checks = [
        Check("rows", "", rows, low=wanted.rows),
        Check("features", "", float(data.vectors.shape[1]), VECTOR_SIZE, VECTOR_SIZE),
    ]
    if rows and not checks[1].failed:
        checks += [
            Check("frauds", "", frauds, low=wanted.frauds),
            Check("genuine", "", rows - frauds, low=wanted.frauds),
            Check("fraud rate", "", frauds / rows, *wanted.fraud_rate),
            Check("unordered rows", "", float((np.diff(data.time) < 0).sum()), high=0),
            Check("duplicate ids", "", _duplicates(data), high=wanted.duplicates),
            Check(
                "labels before transactions",
                "",
                float((data.label_time < data.time).mean()),
                high=wanted.labels_before_transactions,
            ),
            *_missing(data, wanted, champion_missing or {}),
            *_ranges(data, wanted),
            *_volumes(data, wanted),
            *_leakage(data, wanted),
        ]
    return DataReport(rows, frauds, tuple(checks))


def _as_json(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "subject": check.subject,
        "figure": check.figure if np.isfinite(check.figure) else None,
        "low": check.low,
        "high": check.high,
        "failed": check.failed,
    }


def _duplicates(data: Dataset) -> float:
    """Return the share of rows whose card and transaction came before."""
    pairs = np.column_stack([data.transactions.card, data.transactions.transaction])
    order = np.lexsort(pairs.T)
    same = (np.diff(pairs[order], axis=0) == 0).all(axis=1)
    return float(same.sum()) / len(pairs)


def _missing(data: Dataset, bounds: DataBounds, champion: Mapping[str, float]) -> list[Check]:
    checks = []
    rates = np.isnan(data.vectors).mean(axis=0)
    for name, rate in zip(NAMES, rates.tolist(), strict=True):
        high, why = bounds.missing_of.get(name, bounds.missing), ""
        if name in champion and name not in bounds.missing_of:
            grown = champion[name] + bounds.missing_growth
            if grown < high:
                high = grown
                why = f"{bounds.missing_growth:g} above the champion's {champion[name]:.6g}"
        checks.append(Check("missing rate", name, rate, high=high, why=why))
    return checks


def _ranges(data: Dataset, bounds: DataBounds) -> list[Check]:
    """Judge the share of the values that are there and out of range; infinite ones always are."""
    checks = []
    for index, feature in enumerate(CATALOGUE):
        values = data.vectors[:, index]
        low, high = bounds.ranges.get(feature.name, _natural(feature))
        outside = (values < low) | (values > high) | np.isinf(values)
        checks.append(
            Check("out of range", feature.name, float(outside.mean()), high=bounds.out_of_range)
        )
    return checks


def _natural(feature: Feature) -> tuple[float, float]:
    """Return the range of a feature that the bounds do not name."""
    if feature.kind == "count":
        return 0.0, np.inf
    return _RANGES.get(feature.unit, (-np.inf, np.inf))


_RANGES: Final[dict[str, tuple[float, float]]] = {
    "0/1": (0.0, 1.0),
    "h UTC": (0.0, 23.0),
    "day": (0.0, 6.0),
    "share": (0.0, 1.0),
}
"""Ranges by unit of the catalogue."""


def _volumes(data: Dataset, bounds: DataBounds) -> list[Check]:
    """Judge each whole day (UTC) of mature rows by the median day; first and last rarely are."""
    if not data.mature:
        return []
    days = data.time[: data.mature] // DAY
    counts = np.bincount(days - days[0])[1:-1]
    if len(counts) < bounds.volume_days:
        return []
    ratio = counts / max(float(np.median(counts)), 1.0)
    low, high = bounds.volume
    worst = {int(ratio.argmin()), int(ratio.argmax()), *np.flatnonzero(ratio < low).tolist()}
    worst |= set(np.flatnonzero(ratio > high).tolist())
    return [
        Check(
            "volume by median",
            str(np.datetime64(int(days[0]) + 1 + day, "D")),
            ratio[day],
            low,
            high,
        )
        for day in sorted(worst)
    ]


def _leakage(data: Dataset, bounds: DataBounds) -> list[Check]:
    """Return the AUC of each feature alone, in either direction, and of it being there or not."""
    fraud = np.flatnonzero(data.fraud)
    genuine = np.flatnonzero(~data.fraud)
    if len(fraud) < bounds.frauds or len(genuine) == 0:
        return []
    step = -(-len(genuine) // MAX_GENUINE)
    bad, good = data.vectors[fraud], data.vectors[genuine[::step]]
    checks = []
    for index, name in enumerate(NAMES):
        if name in bounds.leakage_exempt:
            continue
        some, others = bad[:, index], good[:, index]
        by_absence = auc(np.isnan(some).astype(np.float32), np.isnan(others).astype(np.float32))
        by_value = auc(some[~np.isnan(some)], others[~np.isnan(others)])
        figure = max(by_value, 1 - by_value, by_absence, 1 - by_absence)
        checks.append(Check("AUC alone", name, figure, high=bounds.leakage_auc))
    return checks
