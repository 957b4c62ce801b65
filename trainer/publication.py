"""What training wants of the registry: the champion before a run, the new model's stages after."""

from __future__ import annotations

from pathlib import Path

from schemas import codec
from schemas.errors import BadMessage, ConfigurationError
from schemas.manifest import MANIFEST_NAME, read_verified, sha256
from schemas.records import Stage
from schemas.runtime.kafka import read_all
from schemas.runtime.settings import Settings
from schemas.runtime.topic_admin import create_topics
from schemas.topics import MODELS
from scorer.follow import bundle_directory
from scorer.registry import Registry
from trainer import registry
from trainer.runs import RunRecord
from trainer.training import Champion


def current_champion(settings: Settings) -> Champion | None:
    """Return the champion of the `models` topic, or None when there is none.

    Raises:
        BrokerUnavailable: Kafka does not answer.
        ConfigurationError: its bundle is at an address that cannot be read from here.
    """
    create_topics(settings)
    folded = Registry()
    for message in read_all(settings, settings.topic(MODELS)):
        if message.value is None:
            folded.forget((message.key or b"").decode(errors="replace"))
            continue
        try:
            name, record = codec.decode(message.value)
        except BadMessage:  # the scorer refuses it too: it makes nobody the champion
            continue
        if name == "ModelEvent":
            folded.apply(record)  # type: ignore[arg-type]
    event = folded.line().champion
    if event is None:
        return None
    return Champion(event["model_id"], bundle_directory(event["artefact_uri"]), event["sha256"])


def champion_of(directory: Path) -> Champion:
    """Return the bundle of a directory, to be compared with.

    Raises:
        ConfigurationError: it is no bundle, or damaged.
    """
    path = directory / MANIFEST_NAME
    if not path.is_file():
        raise ConfigurationError(f"--champion {directory} is no bundle: it has no {MANIFEST_NAME}")
    digest = sha256(path.read_bytes())
    return Champion(read_verified(directory, digest)[0].model_id, directory, digest)


def publish_run(
    settings: Settings, record: RunRecord, stages: tuple[Stage, ...], share: float | None
) -> None:
    """Put the model of a run that passed at each of the stages in order; `share` is a canary's.

    Raises:
        BrokerUnavailable: Kafka does not answer.
    """
    if record.bundle is None or record.sha256 is None:
        raise ConfigurationError(f"{record.run_id} has no bundle: nothing to register")
    events = [
        registry.model_event(
            record.model_id,
            stage,
            Path(record.bundle),
            record.sha256,
            dict(record.metrics),
            occurred_at=record.finished_at,
            canary_share=share if stage == "CANARY" else None,
        )
        for stage in stages
    ]
    registry.publish(settings, events)
