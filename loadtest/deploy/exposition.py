"""Reads the services' /metrics and sums them by kind of service."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from runtime.metrics import read_exposition

Series = tuple[str, str, tuple[tuple[str, str], ...]]
"""Kind of service, name of the sample, and its labels without `service`."""


class StageCost(NamedTuple):
    """Time that one kind of service spent in a stage."""

    service: str
    stage: str
    seconds: float


def read_metrics(ports: Mapping[str, int], timeout_s: float = 2.0) -> dict[Series, float]:
    """Return every series of the services that answer, summed over the services of a kind.

    `ports` maps names such as "stream-1" and "scorer-1" to health ports; the name without its
    number is the kind.
    """
    found: dict[Series, float] = {}
    for name, port in ports.items():
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout_s) as answer:
                text = answer.read().decode()
        except (URLError, HTTPException, OSError):
            continue  # the service is starting or was stopped, and has nothing to add
        kind = name.rsplit("-", 1)[0]
        for sample, labels, value in read_exposition(text):
            key = (kind, sample, tuple(sorted((k, v) for k, v in labels.items() if k != "service")))
            found[key] = found.get(key, 0.0) + value
    return found


def stage_costs(before: Mapping[Series, float], after: Mapping[Series, float]) -> list[StageCost]:
    """Return the time spent in each stage between two readings."""
    return [
        StageCost(key[0], dict(key[2])["stage"], value - before.get(key, 0.0))
        for key, value in sorted(after.items())
        if key[1] == "fraud_stage_seconds_sum"
    ]


def total(series: Mapping[Series, float], kind: str, name: str) -> float:
    """Return the sum of a metric over its labels, for example the lag of all partitions."""
    return sum(value for key, value in series.items() if key[:2] == (kind, name))


def label_values(series: Mapping[Series, float], kind: str, name: str, label: str) -> list[str]:
    """Return the values that a label has in those series of a metric that are not 0."""
    found = {
        dict(key[2]).get(label)
        for key, value in series.items()
        if key[:2] == (kind, name) and value
    }
    return sorted(each for each in found if each)
