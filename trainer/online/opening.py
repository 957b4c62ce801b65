"""What the online learner reads: each topic from where its state says, and the model registry."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from runtime.kafka.model_registry import ModelRegistry, open_registry
from runtime.kafka.reader import KafkaReader, offset_bounds, offsets_at
from runtime.kafka.topic_admin import create_topics
from runtime.settings import Settings
from trainer.online.follower import FOLLOWED


@dataclass(frozen=True, slots=True)
class OnlineInputs:
    """Everything that talks to Kafka; close it in the end."""

    registry: ModelRegistry
    readers: Mapping[str, KafkaReader]
    """By plain topic name."""
    _parts: ExitStack

    def close(self) -> None:
        """Let go of Kafka."""
        self._parts.close()

    def positions(self) -> dict[str, dict[int, int]]:
        """Return the next offset of each partition, by plain topic name."""
        return {name: reader.positions() for name, reader in self.readers.items()}


def open_inputs(settings: Settings, state: Mapping[str, Any] | None, now_ms: int) -> OnlineInputs:
    """Open the registry, and the topics where `state` says; without it, two label delays ago.

    Raises:
        BrokerUnavailable: Kafka does not answer; nothing stays open.
    """
    with ExitStack() as parts:
        create_topics(settings, service="online")
        registry = parts.enter_context(open_registry(settings))
        readers: dict[str, KafkaReader] = {}
        for spec in FOLLOWED:
            topic = settings.topic(spec)
            if state is None:
                starts = offsets_at(settings, topic, now_ms - 2 * settings.label_delay.ms)
            else:
                saved = state["json"]["positions"][spec.name]
                starts = {
                    number: min(max(int(saved.get(str(number), low)), low), end)
                    for number, (low, end) in offset_bounds(settings, topic).items()
                }
            readers[spec.name] = parts.enter_context(closing(KafkaReader(settings, topic, starts)))
        return OnlineInputs(registry, readers, parts.pop_all())
