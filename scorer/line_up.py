"""Who serves in which role, by the state of the `models` topic and the bundles that load. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.model_stages import ModelStates
from schemas.records import ModelEvent


@dataclass(frozen=True, slots=True)
class Line:
    """Who serves: the champion, canaries and shadows in the order of their events."""

    champion: ModelEvent | None = None
    canaries: tuple[ModelEvent, ...] = ()
    shadows: tuple[ModelEvent, ...] = ()

    @property
    def events(self) -> tuple[ModelEvent, ...]:
        """Every model that must be loaded."""
        first = () if self.champion is None else (self.champion,)
        return (*first, *self.canaries, *self.shadows)


def line(states: ModelStates, refused: Mapping[str, str] | None = None) -> Line:
    """Return who serves, without `refused` (model_id to SHA-256): bundles that do not load.

    A champion that does not load leaves its place to the one before it.
    """
    bad = refused or {}

    def usable(events: list[ModelEvent]) -> list[ModelEvent]:
        return [event for event in events if bad.get(event["model_id"]) != event["sha256"]]

    return Line(
        next(iter(usable(states.champions())), None),
        tuple(usable(states.at("CANARY"))),
        tuple(usable(states.at("SHADOW"))),
    )
