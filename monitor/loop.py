"""The monitor's loop: reads its topics in step, evaluates, and sends alerts and requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from monitor.notify import Notifier
from monitor.service import Monitor
from runtime.kafka.protocols import Producer, Reader
from runtime.settings import Settings

MAX_MESSAGES: Final = 5_000
POLL_S: Final = 0.1
DUE_EVERY_S: Final = 0.2
"""Interval between checks for due evaluations when event time may run far ahead of the clock."""


class MonitorLoop:
    """Reads the topic that is furthest behind in time, and sends the monitor's messages.

    Args:
        readers: by topic name without the prefix.
        notifier: sends each alert to people.
        ends: returns the end offsets of `transactions`; called once per evaluation.
    """

    def __init__(
        self,
        monitor: Monitor,
        readers: Mapping[str, Reader],
        producer: Producer,
        *,
        notifier: Notifier | None = None,
        ends: Callable[[], Mapping[int, int]] | None = None,
        settings: Settings,
    ) -> None:
        self._monitor, self._readers, self._producer = monitor, readers, producer
        self._notifier, self._ends, self._settings = notifier, ends, settings
        self._newest = dict.fromkeys(readers, 0)
        self._ends_known: Mapping[int, int] | None = None
        self._due_every_s = DUE_EVERY_S if settings.monitor_clock == "event" else 0.0
        self._due_at = 0.0

    def step(self, timeout_s: float = POLL_S) -> int:
        """Read messages, run due evaluations and send the results; return the number read.

        Raises:
            BrokerUnavailable: Kafka does not answer. Nothing is lost; call again.
        """
        came = 0
        for topic in sorted(self._newest, key=lambda name: self._newest[name]):
            messages = self._readers[topic].poll_batch(MAX_MESSAGES, 0.0)
            if messages:
                self._monitor.receive(topic, messages)
                self._newest[topic] = max(message.timestamp for message in messages)
                came = len(messages)
                break
        if not came:
            topic = max(self._newest, key=lambda name: self._newest[name])
            messages = self._readers[topic].poll_batch(MAX_MESSAGES, timeout_s)
            self._monitor.receive(topic, messages)
            came = len(messages)
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + self._due_every_s
            if self._monitor.due(self._ends_known) and self._ends is not None:
                self._ends_known = self._ends()
        self.send()
        return came

    def send(self) -> None:
        """Publish the messages of the monitor's outbox and notify people of its alerts.

        Raises:
            BrokerUnavailable: the producer's queue is full; call again.
        """
        outbox = self._monitor.outbox
        while outbox:
            topic, key, value = outbox[0]
            self._producer.produce(self._settings.topic(topic), key, value)
            outbox.popleft()
        while self._monitor.alerted:
            alert = self._monitor.alerted.popleft()
            if self._notifier is not None:
                self._notifier.send(alert)
