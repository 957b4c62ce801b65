"""The model registry: a log of stage changes on the `models` topic.

It is the only way to change the stage of a model. `schemas.model_stages` says which changes are
allowed. Writers exclude each other, so every change is checked against the state that it applies
to. The topic holds the whole state; nothing is kept elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime.clock import Clock, SystemClock
from runtime.kafka.protocols import Entry, ExclusiveLog, Message
from runtime.settings import Settings
from schemas.codec import avro
from schemas.errors import BadMessage, ConfigurationError
from schemas.manifest import ANYBODY, BundleTrust, manifest_sha256, read_verified
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent, Stage

METRICS_FILE = "metrics.json"


class ModelRegistry:
    """Reads and changes the stages of models. Every call blocks.

    Every method may raise BrokerUnavailable.
    """

    def __init__(self, log: ExclusiveLog, clock: Clock | None = None) -> None:
        self._log = log
        self._clock = clock or SystemClock()
        self.ignored: list[BadMessage] = []
        """The entries that could not be decoded when the log was last read."""

    def states(self) -> ModelStates:
        """Return the stage of every model, from the whole log."""
        return self._states(self._log.read())

    def register(self, event: ModelEvent) -> ModelEvent:
        """Add a model, or add a retired or rolled-back one again; see `registration`.

        Raises:
            ImpossibleTransition: the model is in shadow, canary or champion.
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
        """Move a model to `stage` and return the event; `share` is a CANARY's part of cards (0, 1].

        Raises:
            ImpossibleTransition: `stage` cannot be reached from the current one.
            ConfigurationError: the share is missing, not wanted, or more than is left.
        """
        now = self._clock.now_ms()
        return self._write(
            lambda states: states.changed(
                model_id, stage, actor=actor, comment=comment, share=share, occurred_at=now
            )
        )

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _write(self, make: Callable[[ModelStates], ModelEvent]) -> ModelEvent:
        made: list[tuple[ModelEvent, Entry]] = []

        def decide(messages: Sequence[Message]) -> list[Entry]:
            if made and any((each.key, each.value) == made[0][1] for each in messages):
                return []  # an earlier attempt was added although its answer was lost
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
    """Open the registry on the `models` topic, which is created if it is missing.

    Args:
        timeout_s: the longest wait for Kafka when topics are created.

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
    bundle: Path,
    *,
    actor: str,
    comment: str | None = None,
    occurred_at: int | None = None,
    trust: BundleTrust = ANYBODY,
) -> ModelEvent:
    """Return the event that registers a bundle, after checking every hash and the signature.

    Args:
        bundle: directory of the bundle.
        occurred_at: ms since the epoch; None means now.
        trust: whether the scorers want it signed.

    Raises:
        ConfigurationError: the directory is not a bundle, one of its files has changed, or it is
            not signed as it must be.
    """
    digest = manifest_sha256(bundle)
    manifest, files = read_verified(bundle, digest, trust)
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
        metrics = {str(name): float(value) for name, value in json.loads(data).items()}
        if not all(map(math.isfinite, metrics.values())):
            raise ValueError("a metric is not a finite number")
        return metrics
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigurationError(
            f"{bundle / METRICS_FILE} does not hold metrics: {error}"
        ) from error
