"""The metrics of processes at one moment, ready for queries. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from runtime.metrics import read_exposition

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Exposition:
    """The samples of a process by name, as (labels, value)."""

    samples: Mapping[str, list[tuple[Labels, float]]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read Prometheus' text format.

        Raises:
            ValueError: the text is not in that format.
        """
        samples: dict[str, list[tuple[Labels, float]]] = {}
        for name, labels, value in read_exposition(text):
            samples.setdefault(name, []).append((labels, value))
        return cls(samples)

    def select(self, name: str, **wanted: str) -> Iterator[tuple[Labels, float]]:
        """Yield the samples of a metric with the labels `wanted`."""
        for labels, value in self.samples.get(name, ()):
            if all(labels.get(key) == text for key, text in wanted.items()):
                yield labels, value

    def total(self, name: str, **wanted: str) -> float | None:
        """Return the sum of those samples, None without any."""
        values = [value for _, value in self.select(name, **wanted)]
        return sum(values) if values else None

    @property
    def service(self) -> str:
        """The name of the process's service, "" before it has counted anything."""
        for samples in self.samples.values():
            for labels, _ in samples:
                if "service" in labels:
                    return labels["service"]
        return ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment; `reason` is why it is not up or not ready."""

    up: bool
    ready: bool = False
    reason: str = ""
    metrics: Exposition = field(default_factory=Exposition)


@dataclass(frozen=True, slots=True)
class Scrape:
    """Every watched process by its name, at one moment (ms since the epoch)."""

    at_ms: int
    processes: Mapping[str, Reading]

    def total(self, name: str, **wanted: str) -> float | None:
        """Return the sum of those samples over all processes, None without any."""
        found = (each.metrics.total(name, **wanted) for each in self.processes.values())
        values = [value for value in found if value is not None]
        return sum(values) if values else None

    def select(self, name: str, **wanted: str) -> Iterator[tuple[Labels, float]]:
        """Yield the samples of a metric in all processes."""
        for each in self.processes.values():
            yield from each.metrics.select(name, **wanted)
