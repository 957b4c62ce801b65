"""Follows the `models` topic: the serving models and their reference histograms."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from schemas.errors import ConfigurationError
from schemas.manifest import ANYBODY, BundleTrust, read_verified
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent
from scorer.line_up import line_up
from scorer.serving import bundle_directory

log = structlog.get_logger(__name__)
HISTOGRAMS: Final = "histograms.json"
Histograms = Mapping[str, Mapping[str, Any]]


def bundle_histograms(event: ModelEvent, trust: BundleTrust = ANYBODY) -> Histograms:
    """Return the reference histograms of an event's verified bundle; empty if it has none.

    Raises:
        ConfigurationError: the bundle cannot be read, its hash differs from the event's, or it is
            not signed as `trust` demands.
    """
    _, files = read_verified(bundle_directory(event["artefact_uri"]), event["sha256"], trust)
    try:
        found = json.loads(files.get(HISTOGRAMS, b"{}"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{HISTOGRAMS} of {event['model_id']} is not JSON: {error}"
        ) from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{HISTOGRAMS} of {event['model_id']} is not an object")
    return found


class ServedModels:
    """The champion, its predecessor and the canaries; `load` reads the histograms of a bundle."""

    def __init__(self, load: Callable[[ModelEvent], Histograms] = bundle_histograms) -> None:
        self._load = load
        self._histograms: dict[str, Histograms] = {}
        self.states = ModelStates()
        self.champion: ModelEvent | None = None
        self.previous: str | None = None
        """The champion before, which serves again if the present one is rolled back."""
        self.canaries: tuple[ModelEvent, ...] = ()

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take a message of `models`.

        Raises:
            BadMessage: the value is not an event of the model that the key names.
        """
        self.states.read(key, value)
        now = line_up(self.states)
        self.champion, self.canaries = now.champion, now.canaries
        former = [event["model_id"] for event in self.states.champions()[1:]]
        self.previous = former[0] if former else None
        serving = {event["model_id"]: event for event in (*self.canaries, self.champion) if event}
        for model_id in list(self._histograms):
            if model_id not in serving:
                del self._histograms[model_id]
        for model_id, event in serving.items():
            if model_id not in self._histograms:
                self._histograms[model_id] = self._read(event)

    def serving(self) -> dict[str, Histograms]:
        """Return the reference histograms of the champion and the canaries, by model id."""
        return dict(self._histograms)

    def _read(self, event: ModelEvent) -> Histograms:
        try:
            return self._load(event)
        except ConfigurationError as error:  # watched without drift; the scorer reports it too
            log.warning("no reference histograms", model=event["model_id"], reason=str(error))
            return {}
