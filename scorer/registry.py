"""Which models serve in which role: the events of the `models` topic, folded. Pure.

The topic is compacted by model_id, so the last event of each model is its state; the champion is
the one whose CHAMPION event came last. When it is retired or rolled back, the champion before it
serves again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.records import ModelEvent

SERVING = ("CHAMPION", "CANARY", "SHADOW")


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


@dataclass(slots=True)
class Registry:
    """The last event of each model, in the order in which the events came."""

    _last: dict[str, ModelEvent] = field(default_factory=dict)

    def apply(self, event: ModelEvent) -> None:
        """Note an event; a model's newest counts."""
        self._last.pop(event["model_id"], None)
        self._last[event["model_id"]] = event

    def forget(self, model_id: str) -> None:
        """Drop a model, as a tombstone asks."""
        self._last.pop(model_id, None)

    def line(self, refused: Mapping[str, str] | None = None) -> Line:
        """Return who serves, without `refused` (model_id to SHA-256): bundles that do not load."""
        bad = refused or {}
        usable = [
            event
            for event in self._last.values()
            if event["stage"] in SERVING and bad.get(event["model_id"]) != event["sha256"]
        ]
        champions = [event for event in usable if event["stage"] == "CHAMPION"]
        return Line(
            champions[-1] if champions else None,
            tuple(event for event in usable if event["stage"] == "CANARY"),
            tuple(event for event in usable if event["stage"] == "SHADOW"),
        )
