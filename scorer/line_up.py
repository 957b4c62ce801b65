"""The line-up: which model serves in which role, from the registry and the usable bundles. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.model_stages import ModelStates
from schemas.records import ModelEvent


@dataclass(frozen=True, slots=True)
class LineUp:
    """The serving models: champion, canaries and shadows, in the order of their events."""

    champion: ModelEvent | None = None
    canaries: tuple[ModelEvent, ...] = ()
    shadows: tuple[ModelEvent, ...] = ()

    @property
    def events(self) -> tuple[ModelEvent, ...]:
        """The events of all models that must be loaded."""
        first = () if self.champion is None else (self.champion,)
        return (*first, *self.canaries, *self.shadows)


def line_up(states: ModelStates, refused: Mapping[str, str] | None = None) -> LineUp:
    """Return the line-up of the usable models.

    `refused` maps model_id to the SHA-256 of a bundle that could not be loaded; such models are
    left out. If the champion is among them, the previous champion serves.
    """
    bad = refused or {}

    def usable(events: list[ModelEvent]) -> list[ModelEvent]:
        return [event for event in events if bad.get(event["model_id"]) != event["sha256"]]

    return LineUp(
        next(iter(usable(states.champions())), None),
        tuple(usable(states.at("CANARY"))),
        tuple(usable(states.at("SHADOW"))),
    )
