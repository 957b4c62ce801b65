"""The registry of models: writes steps that `schemas.model_stages` allows to the `models` topic.

Trainer, monitor, commands and load tests change stages by it and by nothing else. Writers exclude
each other, so each step is checked against the state that it changes. The whole state is on the
topic; nothing is kept elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime.clock import Clock, SystemClock
from runtime.kafka.protocols import Entry, ExclusiveLog, Message
from runtime.settings import Settings
from schemas.codec import avro
from schemas.errors import BadMessage, ConfigurationError
from schemas.manifest import MANIFEST_NAME, read_verified, sha256
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent, Stage

METRICS_FILE = "metrics.json"


class ModelRegistry:
    """Reads and changes the stages of models on a log. Every call blocks.

    All raise BrokerUnavailable when Kafka does not answer.
    """

    def __init__(self, log: ExclusiveLog, clock: Clock | None = None) -> None:
        self._log = log
        self._clock = clock or SystemClock()
        self.ignored: list[BadMessage] = []
        """What could not be read when the log was last read."""

    def states(self) -> ModelStates:
        """Return where every model stands, from the whole log."""
        return self._states(self._log.read())

    def register(self, event: ModelEvent) -> ModelEvent:
        """Add a model, or one that was retired or rolled back again; see `registration`.

        Raises:
            ImpossibleTransition: it is tried or serves.
        """

        def checked(states: ModelStates) -> ModelEvent:
            states.registered(event)
            return event

        return self._write(checked)

    def change(
        self,
        model_id: str,
        stage: Stage,
        *,
        actor: str,
        comment: str | None = None,
        share: float | None = None,
    ) -> ModelEvent:
        """Put a model at `stage`, a CANARY with `share` (0, 1] of the cards; return the event.

        Raises:
            ImpossibleTransition: no step leads there from where it stands.
            ConfigurationError: the share is missing, out of place, or more than is left.
        """
        now = self._clock.now_ms()
        return self._write(
            lambda states: states.changed(
                model_id, stage, actor=actor, comment=comment, share=share, occurred_at=now
            )
        )

    def close(self) -> None:
        """Let go of the log."""
        self._log.close()

    def _write(self, make: Callable[[ModelStates], ModelEvent]) -> ModelEvent:
        made: list[tuple[ModelEvent, Entry]] = []

        def decide(messages: Sequence[Message]) -> list[Entry]:
            if made and any((each.key, each.value) == made[0][1] for each in messages):
                return []  # an attempt of which no answer came had arrived
            event = make(self._states(messages))
            made[:] = [(event, (event["model_id"].encode(), avro.encode("ModelEvent", event)))]
            return [made[0][1]]

        self._log.append(decide)
        return made[0][0]

    def _states(self, messages: Sequence[Message]) -> ModelStates:
        states, self.ignored = ModelStates.of((each.key, each.value) for each in messages)
        return states


@contextmanager
def open_registry(settings: Settings, *, timeout_s: float = 30.0) -> Iterator[ModelRegistry]:
    """Return the registry on the `models` topic, which is created if it is not there.

    Args:
        timeout_s: longest wait for Kafka's answer.

    Raises:
        BrokerUnavailable: Kafka does not answer.
    """
    from runtime.kafka.exclusive_log import KafkaExclusiveLog
    from runtime.kafka.topic_admin import create_topics
    from schemas.topics import MODELS

    create_topics(settings, timeout_s)
    registry = ModelRegistry(KafkaExclusiveLog(settings, settings.topic(MODELS)))
    try:
        yield registry
    finally:
        registry.close()


def registration(
    bundle: Path, *, actor: str, comment: str | None = None, occurred_at: int | None = None
) -> ModelEvent:
    """Return the event that registers a bundle, after a look at every hash of it.

    Args:
        bundle: its directory.
        occurred_at: ms; None: now.

    Raises:
        ConfigurationError: it is no bundle, or a file of it has changed.
    """
    path = bundle / MANIFEST_NAME
    if not path.is_file():
        raise ConfigurationError(
            f"{bundle} is no bundle, it has no {MANIFEST_NAME}: "
            "train one with `python -m trainer bootstrap`"
        )
    digest = sha256(path.read_bytes())
    manifest, files = read_verified(bundle, digest)
    return {
        "model_id": manifest.model_id,
        "stage": "REGISTERED",
        "canary_share": None,
        "artefact_uri": bundle.resolve().as_uri(),
        "sha256": digest,
        "fingerprint": manifest.fingerprint,
        "metrics": _metrics(bundle, files.get(METRICS_FILE, b"{}")),
        "occurred_at": SystemClock().now_ms() if occurred_at is None else occurred_at,
        "actor": actor,
        "comment": comment,
    }


def _metrics(bundle: Path, data: bytes) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in json.loads(data).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{bundle / METRICS_FILE} holds no metrics: {error}") from error
