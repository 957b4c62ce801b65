"""The monitor's loop: reads its topics in step, evaluates, and sends alerts and requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from monitor.notify import Notifier
from monitor.service import Monitor
from runtime.kafka.protocols import Producer, Reader
from runtime.settings import Settings

MAX_ROWS: Final = 5_000
POLL_S: Final = 0.1
DUE_EVERY_S: Final = 0.2
"""How often it is looked for what is due when event time may run far faster than the clock."""


class Loop:
    """Reads the topic that is furthest behind in time, and sends what the monitor leaves.

    Args:
        readers: by plain topic name.
        notifier: gets each alert, for people.
        ends: returns the ends of `transactions`; asked once an evaluation.
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
        """Read what has come, evaluate what is due and send it; return how many messages came.

        Raises:
            BrokerUnavailable: Kafka does not answer; nothing is lost, call again.
        """
        came = 0
        for topic in sorted(self._newest, key=lambda name: self._newest[name]):
            messages = self._readers[topic].poll_batch(MAX_ROWS, 0.0)
            if messages:
                self._monitor.receive(topic, messages)
                self._newest[topic] = max(message.timestamp for message in messages)
                came = len(messages)
                break
        if not came:
            topic = max(self._newest, key=lambda name: self._newest[name])
            messages = self._readers[topic].poll_batch(MAX_ROWS, timeout_s)
            self._monitor.receive(topic, messages)
            came = len(messages)
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + self._due_every_s
            if self._monitor.due(self._ends_known) and self._ends is not None:
                self._ends_known = self._ends()
        self.send()
        return came

    def send(self) -> None:
        """Send the messages that the monitor left, and its alerts to people.

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
