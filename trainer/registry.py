"""Registry events of a bundle: records for the `models` topic, and their publication."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

from schemas import codec
from schemas.features import FINGERPRINT
from schemas.records import ModelEvent, Stage
from schemas.runtime.kafka import KafkaProducer
from schemas.runtime.settings import Settings
from schemas.runtime.topic_admin import create_topics
from schemas.topics import MODELS

STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
FIRST_STEPS: Final[tuple[Stage, ...]] = ("REGISTERED", "CHAMPION")
"""What a first model goes through: there is no champion to prove itself against."""


def model_event(
    model_id: str,
    stage: Stage,
    bundle: Path,
    sha256: str,
    metrics: dict[str, float],
    *,
    occurred_at: int,
    actor: str = "trainer",
    canary_share: float | None = None,
) -> ModelEvent:
    """Return the event that puts `bundle` at `stage`; `sha256` is that of its manifest."""
    return {
        "model_id": model_id,
        "stage": stage,
        "canary_share": canary_share,
        "artefact_uri": bundle.resolve().as_uri(),
        "sha256": sha256,
        "fingerprint": FINGERPRINT,
        "metrics": metrics,
        "occurred_at": occurred_at,
        "actor": actor,
        "comment": None,
    }


def publish(settings: Settings, events: Sequence[ModelEvent]) -> None:
    """Put events on `models` in order; returns when Kafka has them.

    Raises:
        BrokerUnavailable: Kafka does not answer.
    """
    create_topics(settings)
    producer = KafkaProducer(settings)
    topic = settings.topic(MODELS)
    for event in events:
        producer.produce(topic, event["model_id"].encode(), codec.encode("ModelEvent", event))
    producer.flush(30.0)
    producer.close()
