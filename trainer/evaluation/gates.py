"""Gates: what a trained model must prove before it is registered. Pure.

`trainer.training.training_run` measures the evidence; here it is judged. Each verdict says its
figure and its bound, so that a refusal can be read without the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from trainer.evaluation.gate_bounds import (
    AlertBound,
    AucBound,
    BundleBound,
    ChampionBound,
    FairnessBound,
    FoldsBound,
    GateBounds,
    LatencyBound,
)
from trainer.evaluation.resampling import auc_difference
from trainer.evaluation.slices import SliceReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was measured on the n rows of the holdout, which are in time order.

    Probabilities are uncalibrated, they rank; `alerted` is score > review threshold. Without a
    champion there is nothing to compare with, and that gate passes. `champion_saw` are the rows
    that it has learned from; None: none of them.
    """

    fraud: npt.NDArray[np.bool_]
    probability: npt.NDArray[np.float64]
    alerted: npt.NDArray[np.bool_]
    champion_id: str | None
    champion_probability: npt.NDArray[np.float64] | None
    row_us: float
    bundle_bytes: int
    slices: Sequence[SliceReport]
    champion_saw: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """One gate: its figure, its bound, and both in words."""

    gate: str
    passed: bool
    figure: float
    bound: float
    text: str


@dataclass(frozen=True, slots=True)
class GateReport:
    """All verdicts."""

    verdicts: tuple[GateVerdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate is passed."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def failures(self) -> tuple[GateVerdict, ...]:
        """Those that refuse the model."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)

    def document(self) -> dict[str, Any]:
        """Return it as stored in gates.json."""
        return {"passed": self.passed, "gates": [asdict(verdict) for verdict in self.verdicts]}


def judge(evidence: Evidence, bounds: GateBounds) -> GateReport:
    """Return the verdict of every gate; the fraud of the evidence has both classes."""
    return GateReport(
        (
            _auc(evidence, bounds.auc),
            _champion(evidence, bounds.champion),
            _time_folds(evidence, bounds.time_folds),
            _latency(evidence, bounds.latency),
            _bundle(evidence, bounds.bundle),
            _alert_rate(evidence, bounds.alert_rate),
            *(_fairness(report, bounds.fairness) for report in evidence.slices),
        )
    )


def _auc(evidence: Evidence, bound: AucBound) -> GateVerdict:
    auc = float(roc_auc_score(evidence.fraud, evidence.probability))
    text = f"AUC {auc:.4f} on the holdout, more than {bound.least:g} is needed"
    return GateVerdict("auc", auc > bound.least, auc, bound.least, text)


def _champion(evidence: Evidence, bound: ChampionBound) -> GateVerdict:
    """Compare on the rows from which the champion has not learned, on all if these are too few."""
    if evidence.champion_probability is None:
        text = "there is no champion to compare with"
        return GateVerdict("champion", True, 0.0, -bound.margin, text)
    rows, margin, where = np.ones(len(evidence.fraud), np.bool_), bound.margin, "the same rows"
    if evidence.champion_saw is not None and evidence.champion_saw.any():
        unseen = ~evidence.champion_saw
        count, frauds = int(unseen.sum()), int(evidence.fraud[unseen].sum())
        if bound.least_frauds <= frauds < count:
            rows, where = unseen, f"the {count:,} same rows from which that one has not learned"
        else:
            margin = bound.seen_margin
            where = (
                f"the same rows (those from which that one has not learned hold {frauds} frauds, "
                f"{bound.least_frauds} are needed to compare on them alone)"
            )
    difference = auc_difference(
        evidence.probability[rows], evidence.champion_probability[rows], evidence.fraud[rows]
    )
    text = (
        f"AUC {difference.value:+.4f} against {evidence.champion_id} on {where}; the "
        f"95% interval begins at {difference.low:+.4f}, {-margin:+g} is the lowest allowed"
    )
    return GateVerdict("champion", difference.low >= -margin, difference.low, -margin, text)


def _time_folds(evidence: Evidence, bound: FoldsBound) -> GateVerdict:
    frauds = np.flatnonzero(evidence.fraud)
    count = min(bound.count, len(frauds) // bound.least_frauds)
    if count < 2:
        text = (
            f"{len(frauds)} frauds in the holdout, {2 * bound.least_frauds} are needed to compare "
            "the AUC of at least two time folds"
        )
        return GateVerdict("time folds", False, len(frauds), 2 * bound.least_frauds, text)
    # Each fold holds as many frauds as the others, so that chance moves each as little.
    borders = frauds[np.arange(1, count) * len(frauds) // count]
    folds = np.split(np.arange(len(evidence.fraud)), borders)
    aucs = [
        float(roc_auc_score(evidence.fraud[fold], evidence.probability[fold]))
        for fold in folds
        if not evidence.fraud[fold].all()
    ]
    spread = float(np.std(aucs) / np.mean(aucs))
    listed = ", ".join(f"{auc:.3f}" for auc in aucs)
    text = (
        f"AUC over {len(aucs)} time folds is {listed}: standard deviation {spread:.2%} of the "
        f"mean, less than {bound.most_spread:.2%} is needed"
    )
    return GateVerdict("time folds", spread < bound.most_spread, spread, bound.most_spread, text)


def _latency(evidence: Evidence, bound: LatencyBound) -> GateVerdict:
    text = f"{evidence.row_us:.0f} µs for one transaction, at most {bound.most_us:g} are allowed"
    passed = evidence.row_us <= bound.most_us
    return GateVerdict("latency", passed, evidence.row_us, bound.most_us, text)


def _bundle(evidence: Evidence, bound: BundleBound) -> GateVerdict:
    size = evidence.bundle_bytes / 1e6
    text = f"the bundle has {size:.2f} MB, at most {bound.most_mb:g} are allowed"
    return GateVerdict("bundle", size <= bound.most_mb, size, bound.most_mb, text)


def _alert_rate(evidence: Evidence, bound: AlertBound) -> GateVerdict:
    rate = float(evidence.alerted.mean())
    low = rate < bound.least
    text = (
        f"{rate:.3%} of the holdout is reviewed or blocked, "
        f"{bound.least:.3%} to {bound.most:.3%} is allowed"
    )
    limit = bound.least if low else bound.most
    return GateVerdict("alert rate", not low and rate <= bound.most, rate, limit, text)


def _fairness(report: SliceReport, bound: FairnessBound) -> GateVerdict:
    gate = f"fairness by {report.name}"
    if report.difference > bound.most_difference:
        text = (
            f"false-positive rates by {report.name} differ by {report.difference:.3%}, at most "
            f"{bound.most_difference:.3%} is allowed; the worst group is {report.worst!r}"
        )
        return GateVerdict(gate, False, report.difference, bound.most_difference, text)
    text = (
        f"the false-positive rate of {report.worst!r} is {report.ratio:.1f} times that of all, "
        f"at most {bound.most_ratio:g} times is allowed (where rates differ by more than "
        f"{bound.ignore_difference:.3%}; they do by {report.difference:.3%})"
    )
    passed = report.ratio <= bound.most_ratio or report.difference <= bound.ignore_difference
    return GateVerdict(gate, passed, report.ratio, bound.most_ratio, text)
