"""Notices that somebody has added partitions to an input topic while we run."""

from __future__ import annotations

import structlog

from runtime.metrics import Metrics

log = structlog.get_logger(__name__)


class Growth:
    """Tells once of each change; the records of the new partitions wait until they are served.

    Args:
        partitions: how many partitions of each topic are served.
    """

    def __init__(self, partitions: int, metrics: Metrics) -> None:
        self._partitions, self._metrics = partitions, metrics
        self._seen: dict[str, int] = {}

    def look(self, topic: str, found: int) -> None:
        """Take note of the number of partitions that a topic has now."""
        self._metrics.set("unserved_partitions", max(found - self._partitions, 0), topic=topic)
        if found > self._seen.get(topic, self._partitions):
            log.error(
                "partitions were added, and nobody reads them yet: follow PartitionsUnserved in "
                "the runbook",
                topic=topic,
                partitions=found,
                served=self._partitions,
            )
        self._seen[topic] = found
