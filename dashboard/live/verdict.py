"""One sentence on the state of the system, with advice if it is not well. Pure.

Findings are checked from the worst kind down, and only the first one is shown; the panels of the
page show the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dashboard.live.service_figures import SCORER, STREAM

SLOW_MS: Final = 100.0
"""The gateway's default deadline, after which the fallback answers requests."""
BEHIND: Final = 5_000
GOOD, WARN, BAD, IDLE = "good", "warn", "bad", "idle"
_ACTS: Final = {"low_precision", "missed_frauds", "model_rolled_back"}


class LiveVerdict(NamedTuple):
    """`todo` is one step of advice; `anchor` is the entry in the runbook, "" without one."""

    level: str
    text: str
    todo: str = ""
    anchor: str = ""


def verdict(
    processes: Sequence[Mapping[str, Any]],
    point: Mapping[str, float | None],
    *,
    champion: str | None,
    raised: Mapping[str, Mapping[str, Any]],
    kafka: str = "",
) -> LiveVerdict:
    """Return the worst finding, or the verdict that all is well.

    Args:
        processes: rows of `service_figures.processes`.
        point: the present values of `service_figures.point`.
        champion: id of the model that decides, None without one.
        raised: alerts that are raised now, by rule; see `journal`.
        kafka: the reason why the topics cannot be read, "" if they can.
    """
    return next(
        _findings(processes, point, champion=champion, raised=raised, kafka=kafka), _well(point)
    )


def _findings(
    processes: Sequence[Mapping[str, Any]],
    point: Mapping[str, float | None],
    *,
    champion: str | None,
    raised: Mapping[str, Mapping[str, Any]],
    kafka: str,
) -> Iterator[LiveVerdict]:
    if not processes:
        yield LiveVerdict(
            BAD,
            "No process is watched.",
            "Set FRAUD_DASHBOARD_TARGETS to the addresses of the processes.",
        )
    for each in (each for each in processes if not each["up"]):
        yield LiveVerdict(
            BAD,
            f"{each['name']} is down: {each['reason']}.",
            "Look at its log and start it again under the same FRAUD_WORKER_ID.",
            "ProcessDown",
        )
    for each in (each for each in processes if not each["ready"]):
        yield LiveVerdict(
            BAD,
            f"{each['name']} does not serve: {each['reason']}.",
            "It goes on by itself once that is back; see to what it waits for.",
            "ProcessNotReady",
        )
    if kafka:
        yield LiveVerdict(
            BAD,
            f"Kafka does not answer this page: {kafka}.",
            "Look after Kafka.",
            "KafkaUnreachable",
        )
    services = {each["service"] for each in processes}
    if SCORER in services and champion is None:
        yield LiveVerdict(
            WARN, "No model decides: rules alone answer.", "Promote a model.", "NoChampion"
        )
    yield from _falls_behind(point)
    p99 = point.get("p99")
    if p99 is not None and p99 > SLOW_MS:
        yield LiveVerdict(
            WARN,
            f"Answers are slow: one in a hundred takes {p99:,.0f} ms or more.",
            "See which stage takes the time; add processes if all do.",
            "DecisionsLate",
        )
    for alert in sorted(raised.values(), key=lambda each: each["level"] != BAD):
        rule = alert["title"]
        yield LiveVerdict(
            alert["level"],
            f"{alert['text'][:1].upper()}{alert['text'][1:]}.",
            "Look at the newest model change; roll it back if it came with that."
            if rule in _ACTS
            else "Find the cause by the runbook.",
            rule,
        )


def _falls_behind(point: Mapping[str, float | None]) -> Iterator[LiveVerdict]:
    for field, service in (("lag_stream", STREAM), ("lag_scorer", SCORER)):
        waiting = point.get(field)
        if waiting is not None and waiting > BEHIND:
            yield LiveVerdict(
                WARN,
                f"{waiting:,.0f} records wait for {service}.",
                f"If the number does not fall, start another {service}.",
                "LagHigh",
            )


def _well(point: Mapping[str, float | None]) -> LiveVerdict:
    rates = [point.get(name) for name in ("approve", "review", "block")]
    decided = sum(value or 0.0 for value in rates)
    if decided < 0.05:
        return LiveVerdict(IDLE, "All processes serve; no transaction comes in.")
    p99 = point.get("p99")
    slow = (
        "" if p99 is None else f", 99 of 100 within {p99:,.0f} ms" if p99 >= 1 else ", within 1 ms"
    )
    return LiveVerdict(GOOD, f"Healthy: {decided:,.0f} decisions a second{slow}.")
