"""Builds the report of a run: one JSON document that always has the promised keys.

loadtest/README.md explains the keys.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from loadtest.deploy.exposition import StageCost
from loadtest.deploy.processes import machine
from loadtest.measure.latency import PERCENTILES, percentiles_ms
from loadtest.traffic.ledger import ACTIONS, STAGES, Ledger
from loadtest.traffic.traffic import Phase

KEYS: Final = (
    "sent", "decided", "lost", "duplicated", "conflicting", "throughput_per_s", "p50_ms",
    "p90_ms", "p99_ms", "p999_ms", "max_ms", "stages", "processes", "machine", "commit",
)  # fmt: skip


def build(
    command: str,
    ledger: Ledger,
    phase: Phase,
    *,
    last_answer: int,
    costs: Sequence[StageCost] = (),
    processes: Mapping[str, Mapping[str, float]] | None = None,
    dead_letters: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the report.

    The counts cover everything that was sent; throughput, latencies and stages cover only `phase`,
    up to `last_answer` (ns, monotonic).
    """
    counts = ledger.counts()
    rows = slice(phase.first, phase.last)
    measured = ledger.counts(phase.first, phase.last)
    seconds = max((last_answer - phase.started) / 1e9, 1e-9)
    order = phase.order
    report: dict[str, Any] = {
        "command": command,
        **counts._asdict(),
        "throughput_per_s": round(measured.decided / seconds, 1),
        **percentiles_ms(ledger.latency[rows]),
        "rate": order.rate or None,
        "speedup": order.speedup or None,
        "measured": {
            "sent": measured.sent,
            "decided": measured.decided,
            "seconds": round(seconds, 3),
        },
        "decisions": dict(zip(ACTIONS, ledger.actions.tolist(), strict=True)),
        "degraded": ledger.degraded,
        "dead_letters": dead_letters,
        "labels": phase.labels,
        "stages": stages(ledger, rows, costs, measured.decided),
        "processes": {name: dict(cost) for name, cost in (processes or {}).items()},
        "machine": machine(),
        "commit": commit(),
    }
    return report | dict(extra or {})


def stages(
    ledger: Ledger, rows: slice, costs: Sequence[StageCost], events: int
) -> dict[str, dict[str, float]]:
    """Return mean, p50 and p99 (ms) of each leg of the way, and the cost of each service's stages.

    The legs are bounded by the services' own time stamps; the one between the first two is in whole
    ms. The cost is in µs per event, from the services' metrics.
    """
    out: dict[str, dict[str, float]] = {}
    for number, name in enumerate(STAGES):
        times = ledger.stages[rows, number]
        times = times[np.isfinite(times)].astype(np.float64)
        if len(times):
            p50, p99 = np.percentile(times, (50, 99))
            out[name] = {
                "mean_ms": round(float(times.mean()), 3),
                "p50_ms": round(float(p50), 3),
                "p99_ms": round(float(p99), 3),
            }
    for cost in costs:
        out[f"{cost.service}.{cost.stage}"] = {
            "us_per_event": round(cost.seconds * 1e6 / max(events, 1), 3)
        }
    return out


def commit() -> str:
    """Return the commit of the code, with "-dirty" if files differ; "unknown" outside of git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() if found.returncode == 0 else "unknown"


def failures(report: Mapping[str, Any]) -> list[str]:
    """Return the faults that make the run a failure, however fast it was."""
    wrong = [
        f"{name}: {report[name]}" for name in ("lost", "duplicated", "conflicting") if report[name]
    ]
    if report.get("swapped"):
        if report["by_no_model"]:
            wrong.append(f"decisions without a model: {report['by_no_model']}")
        if report["swaps_applied"] < len(report["swaps"]):
            wrong.append(f"swaps applied: {report['swaps_applied']} of {len(report['swaps'])}")
    for name in ("unanswered", "after_deadline"):
        if report.get(name):
            wrong.append(f"{name}: {report[name]}")
    return wrong if report["decided"] else [*wrong, "nothing was decided"]


def summary(report: Mapping[str, Any]) -> list[str]:
    """Return the report's main figures as lines of text."""
    latency = ", ".join(
        f"{name.removesuffix('_ms')} {report[name]:.2f} ms" if report[name] is not None else name
        for name in (*PERCENTILES, "max_ms")
    )
    cost = ", ".join(
        f"{name} {each['cpu_share']:.0%} {each['rss_mb']:.0f} MB"
        for name, each in report["processes"].items()
    )
    gateway = (
        [
            f"answered {report['answered']:,}: fallback {report['fallback']:,}, "
            f"problems {report['problems']:,}, unanswered {report['unanswered']}"
        ]
        if "fallback" in report
        else []
    )
    return [
        *gateway,
        f"sent {report['sent']:,}, decided {report['decided']:,}, lost {report['lost']}, "
        f"duplicated {report['duplicated']}, conflicting {report['conflicting']}",
        f"throughput {report['throughput_per_s']:,.0f}/s; {latency}",
        f"CPU and memory: {cost}",
    ]
