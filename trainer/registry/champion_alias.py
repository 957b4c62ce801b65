"""MLflow's alias `champion` follows the registry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import structlog

from schemas.errors import TrackingUnavailable
from schemas.model_stages import ModelStates
from trainer.registry.adjusted import base_of

log = structlog.get_logger(__name__)
NOWHERE: Final = ""


class ChampionAlias:
    """Remembers where the alias is, so that MLflow is asked only when the champion is another.

    Args:
        point: points the alias to the version of a trained model and returns whether it has one;
            see `tracking.point_champion`.
    """

    def __init__(self, point: Callable[[str], bool]) -> None:
        self._point = point
        self._at = NOWHERE
        self._moved = threading.Event()

    def moved(self) -> None:
        """Have the next `follow` ask MLflow: a training has set the alias. From any thread.

        A training sets it to the model that served when it began.
        """
        self._moved.set()

    def follow(self, states: ModelStates) -> None:
        """Point the alias to the champion, to its base if the online learner has adjusted it.

        Where MLflow is away, or does not have that model yet, the next call tries again. Blocks
        for some seconds where it does not answer.
        """
        if self._moved.is_set():
            self._moved.clear()
            self._at = NOWHERE
        champion = next(iter(states.champions()), None)
        if champion is None:
            return
        base = base_of(champion["model_id"])
        if base == self._at:
            return
        try:
            found = self._point(base)
        except TrackingUnavailable as error:
            log.warning("alias not pointed", alias="champion", model_id=base, reason=str(error))
            return
        if found:
            self._at = base
            log.info("alias pointed", alias="champion", model_id=base)
