"""Notices cards whose messages are on a partition that their card_id does not lead to.

A card's state belongs to one partition, and the worker of another one overwrites what it does not
know of. So every producer must choose partitions as Kafka's own partitioner does, by the card_id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog

from runtime.kafka.partitioner import partitions_of
from runtime.metrics import Metrics
from runtime.repeated_lines import RepeatedLines

log = structlog.get_logger(__name__)
TELL_EVERY_S: Final = 60.0


class Placement:
    """Counts misplaced messages of one topic; a log line tells of them once a minute at most.

    Args:
        topic: its full name.
        partitions: the number among which producers choose.
        monotonic: returns seconds.
    """

    def __init__(
        self, topic: str, partitions: int, metrics: Metrics, monotonic: Callable[[], float]
    ) -> None:
        self._topic, self._partitions = topic, partitions
        self._metrics = metrics
        self._lines, self._untold = RepeatedLines(TELL_EVERY_S, monotonic), 0
        metrics.count("misplaced", 0, topic=topic)

    def check(self, cards: Sequence[bytes], partition: npt.NDArray[np.int64]) -> None:
        """Compare where n messages are with where their cards belong; both have length n."""
        if not len(cards):
            return
        misplaced: Any = np.flatnonzero(partitions_of(cards, self._partitions) != partition)
        if not len(misplaced):
            return
        self._metrics.count("misplaced", len(misplaced), topic=self._topic)
        self._untold += len(misplaced)
        if self._lines.due(self._topic) is None:
            return
        log.warning(
            "cards are on partitions that their card_id does not lead to: their features may be "
            "wrong until each producer keys by card_id and uses the murmur2 partitioner",
            topic=self._topic,
            messages=self._untold,
            partition=int(partition[misplaced[0]]),
        )
        self._untold = 0
