"""A second model for the demo: trained under traffic, then scoring as a shadow."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from devstack.child import Child
from loadtest.deploy.model import bootstrap_command, publish
from runtime.settings import Settings
from schemas.manifest import MANIFEST_NAME

AFTER_S: Final = 30.0
"""Training starts this long after the live stream, so that people can watch the model arrive."""
ROUNDS: Final = 400
"""Twice as many trees as the champion has."""
NAME: Final = "demo-challenger"


class Challenger:
    """Trains and publishes the challenger while `step` is called; ends the training on exit."""

    def __init__(
        self, history: Path, models: Path, settings: Settings, log: Path, say: Callable[[str], None]
    ) -> None:
        command = bootstrap_command(history, models, NAME, rounds=ROUNDS)
        self._trainer = Child("challenger", command, log)
        self._bundle, self._settings, self._say = models / NAME, settings, say
        self._due = time.monotonic() + AFTER_S
        self._started = self._done = False

    def step(self) -> None:
        """Start the training when it is due, and publish its bundle when it has ended."""
        if not self._started:
            if time.monotonic() >= self._due:
                self._trainer.start()
                self._started = True
        elif not self._done and not self._trainer.running:
            self._done = True
            if not (self._bundle / MANIFEST_NAME).exists():
                self._say(f"training the challenger failed: {self._trainer.log_tail()}")
                return
            publish(self._settings, self._bundle, "SHADOW")
            self._say(f"{NAME} now scores as a shadow: see the dashboard's page Models")

    def __enter__(self) -> Challenger:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the training."""
        self._trainer.stop()
