"""Who takes part in a backtest: a bundle from the registry or a directory, under a policy file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.kafka.model_registry import open_registry
from runtime.settings import Settings, load_settings
from schemas.errors import ConfigurationError
from schemas.manifest import manifest_sha256, read_verified
from schemas.model_stages import ModelStates
from scorer.decision.judge import Serving
from scorer.model.bundle import HISTOGRAMS, load_model
from scorer.policy.document import DEFAULT_POLICY, Policy
from scorer.policy.file import policy_text
from scorer.policy.unmatchable import checked_policy
from scorer.serving import bundle_directory
from trainer.backtest.backtest import Contender


def read_policy_file(path: Path | None) -> Policy:
    """Return the compiled policy of a YAML or JSON file; the default policy for None.

    Raises:
        ConfigurationError: it cannot be read, is refused, or has values that can never match.
    """
    return DEFAULT_POLICY if path is None else checked_policy(policy_text(path))


def bundle_of(model_id: str, settings: Settings) -> tuple[Path, str]:
    """Return directory and manifest SHA-256 of a model in the registry.

    Raises:
        ConfigurationError: it is not there; the text says which ones are.
        BrokerUnavailable: Kafka does not answer.
    """
    with open_registry(settings) as registry:
        return bundle_in(registry.states(), model_id)


def bundle_in(states: ModelStates, model_id: str) -> tuple[Path, str]:
    """Return directory and SHA-256 by the last event of a model; raises as `bundle_of`."""
    state = states.get(model_id)
    if state is None:
        known = ", ".join(each.model_id for each in states) or "none"
        raise ConfigurationError(
            f"the registry has no model {model_id!r}, it has {known}: "
            "give one of them, or the directory of a bundle"
        )
    return bundle_directory(state.event["artefact_uri"]), state.event["sha256"]


def bundle_at(directory: Path) -> tuple[Path, str]:
    """Return a bundle's directory and the SHA-256 of its manifest.

    Raises:
        ConfigurationError: it has no manifest.
    """
    return directory, manifest_sha256(directory)


def contender(model: str | Path, policy: Policy) -> Contender:
    """Return a model under a policy; `model` is a bundle's directory, or an id in the registry.

    Raises:
        ConfigurationError: no such model, or its bundle cannot be served (another catalogue …).
        BrokerUnavailable: Kafka does not answer.
    """
    by_path = isinstance(model, Path) or Path(model).is_dir()
    found = bundle_at(Path(model)) if by_path else bundle_of(str(model), load_settings())
    loaded = load_model(*found)
    try:
        histograms: dict[str, Any] = json.loads(read_verified(*found)[1].get(HISTOGRAMS, b"{}"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{found[0] / HISTOGRAMS} is not readable: {error}") from error
    return Contender(Serving(policy, loaded), histograms)
