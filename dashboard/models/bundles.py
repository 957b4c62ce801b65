"""Cache of the model bundles that pages ask for. Blocks while loading; thread-safe."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

import structlog

from schemas.errors import ConfigurationError
from schemas.manifest import ANYBODY, BundleTrust
from schemas.records import ModelEvent
from scorer.model.bundle import Model, load_model
from scorer.serving import bundle_directory

log = structlog.get_logger(__name__)
MAX_KEPT: Final = 4


class BundleCache:
    """The last few models, by the hash of their bundle."""

    def __init__(self, trust: BundleTrust = ANYBODY) -> None:
        self._trust = trust
        self._kept: OrderedDict[str, Model | None] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, event: ModelEvent) -> Model | None:
        """Return the model of an event; None if its bundle cannot be read here."""
        with self._lock:
            sha256 = event["sha256"]
            if sha256 not in self._kept:
                try:
                    self._kept[sha256] = load_model(
                        bundle_directory(event["artefact_uri"]), sha256, self._trust
                    )
                except ConfigurationError as error:
                    log.warning(
                        "bundle not readable", model_id=event["model_id"], reason=str(error)
                    )
                    self._kept[sha256] = None
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(sha256)
            return self._kept[sha256]
