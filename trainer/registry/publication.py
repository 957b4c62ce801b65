"""The trainer's use of the registry: the champion before a run, the new model's stages after it."""

from __future__ import annotations

from pathlib import Path

from runtime.kafka.model_registry import ModelRegistry, registration
from schemas.errors import ConfigurationError
from schemas.manifest import ANYBODY, BundleTrust, manifest_sha256, read_verified
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent, Stage
from scorer.model.bundle import load_model
from scorer.serving import bundle_directory
from trainer.registry.advance import ACTOR
from trainer.training.run_records import RunRecord
from trainer.training.training_run import Champion


def current_champion(registry: ModelRegistry) -> Champion | None:
    """Return the model that serves now, or None when there is none.

    Raises:
        BrokerUnavailable: Kafka does not answer.
        ConfigurationError: its bundle is at an address that cannot be read from here.
    """
    event = next(iter(registry.states().champions()), None)
    if event is None:
        return None
    return Champion(event["model_id"], bundle_directory(event["artefact_uri"]), event["sha256"])


def champion_of(directory: Path) -> Champion:
    """Return the bundle of a directory, to be compared with.

    Raises:
        ConfigurationError: it is not a bundle, or it is damaged.
    """
    digest = manifest_sha256(directory)
    return Champion(read_verified(directory, digest)[0].model_id, directory, digest)


def loaded_registration(
    bundle: Path,
    *,
    actor: str,
    comment: str | None = None,
    occurred_at: int | None = None,
    trust: BundleTrust = ANYBODY,
) -> ModelEvent:
    """Return the event that registers a bundle, once it has been loaded as a scorer loads it.

    Raises:
        ConfigurationError: a scorer would refuse the bundle; the text says why.
    """
    event = registration(bundle, actor=actor, comment=comment, occurred_at=occurred_at, trust=trust)
    load_model(bundle, event["sha256"], trust)
    return event


def require_loadable(states: ModelStates, model_id: str, trust: BundleTrust) -> None:
    """Load a model's bundle as a scorer loads it, before the model is put on trial or into service.

    Raises:
        ConfigurationError: a scorer would refuse the bundle, or it is not where we see it.
    """
    state = states.get(model_id)
    if state is not None:
        load_model(bundle_directory(state.event["artefact_uri"]), state.event["sha256"], trust)


def publish_run(
    registry: ModelRegistry,
    record: RunRecord,
    stage: Stage,
    share: float | None,
    trust: BundleTrust = ANYBODY,
) -> None:
    """Register the model of a run that passed, and put it at `stage`; `share` is a canary's.

    Steps that an interrupted process has already taken are not repeated. A model that others have
    moved on meanwhile is left where it is.

    Raises:
        BrokerUnavailable: Kafka does not answer.
        ConfigurationError: a scorer would refuse the bundle.
        ImpossibleTransition: another writer moved the model meanwhile.
    """
    if record.bundle is None:
        raise ConfigurationError(f"{record.run_id} has no bundle: nothing to register")
    event = loaded_registration(
        Path(record.bundle),
        actor=ACTOR,
        comment=record.run_id,
        occurred_at=record.finished_at,
        trust=trust,
    )
    state = registry.states().get(record.model_id)
    if state is None or state.event["sha256"] != event["sha256"]:
        registry.register(event)
    elif state.stage != "REGISTERED":
        return
    if stage != "REGISTERED":
        registry.change(record.model_id, stage, actor=ACTOR, comment=record.run_id, share=share)
