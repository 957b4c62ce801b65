"""Who takes part in a backtest: a bundle from the registry or a directory, under a policy file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas import codec
from schemas.errors import BadMessage, ConfigurationError
from schemas.manifest import MANIFEST_NAME, sha256
from schemas.records import ModelEvent
from schemas.runtime.kafka import read_all
from schemas.runtime.settings import Settings, load_settings
from schemas.runtime.streams import Message
from schemas.topics import MODELS
from scorer.follow import bundle_directory
from scorer.judge import Serving
from scorer.model import HISTOGRAMS, load_model
from scorer.policy_document import DEFAULT_POLICY, Policy, compile_policy
from scorer.policy_file import policy_text
from trainer.backtest import Contender


def read_policy_file(path: Path | None) -> Policy:
    """Return the compiled policy of a YAML or JSON file; the default policy for None.

    Raises:
        ConfigurationError: it cannot be read, or is refused.
    """
    return DEFAULT_POLICY if path is None else compile_policy(policy_text(path))


def bundle_of(model_id: str, settings: Settings) -> tuple[Path, str]:
    """Return directory and manifest SHA-256 of a model on the `models` topic.

    Raises:
        ConfigurationError: no event of the topic names it; the text says which ones there are.
        BrokerUnavailable: Kafka does not answer.
    """
    return bundle_in(read_all(settings, settings.topic(MODELS)), model_id)


def bundle_in(messages: Iterable[Message], model_id: str) -> tuple[Path, str]:
    """Return directory and SHA-256 by the last event of `model_id` among `messages`.

    Raises:
        ConfigurationError: none names it.
    """
    last: dict[str, ModelEvent] = {}
    for message in messages:
        try:
            name, record = codec.decode(message.value or b"")
        except BadMessage:  # a deletion, or somebody else's: it names no bundle
            continue
        if name == "ModelEvent":
            event: ModelEvent = record  # type: ignore[assignment]
            last[event["model_id"]] = event
    if model_id not in last:
        raise ConfigurationError(
            f"the registry has no model {model_id!r}, it has {', '.join(last) or 'none'}: "
            "give one of them, or the directory of a bundle"
        )
    return bundle_directory(last[model_id]["artefact_uri"]), last[model_id]["sha256"]


def bundle_at(directory: Path) -> tuple[Path, str]:
    """Return a bundle's directory and the SHA-256 of its manifest.

    Raises:
        ConfigurationError: it has no manifest.
    """
    path = directory / MANIFEST_NAME
    if not path.is_file():
        raise ConfigurationError(f"{directory} is no bundle: it has no {MANIFEST_NAME}")
    return directory, sha256(path.read_bytes())


def contender(model: str | Path, policy: Policy) -> Contender:
    """Return a model under a policy; `model` is a bundle's directory, or an id in the registry.

    Raises:
        ConfigurationError: no such model, or its bundle cannot be served (another catalogue …).
        BrokerUnavailable: Kafka does not answer.
    """
    by_path = isinstance(model, Path) or Path(model).is_dir()
    found = bundle_at(Path(model)) if by_path else bundle_of(str(model), load_settings())
    loaded = load_model(*found)
    path = found[0] / HISTOGRAMS
    histograms: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return Contender(Serving(policy, loaded), histograms)
