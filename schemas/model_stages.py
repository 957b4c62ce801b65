"""The life of models: stages, the steps between them, and the state that `models` holds.

Pure: `runtime.kafka.model_registry` reads the topic and writes the steps that are allowed here.

The topic is compacted by model_id, so the state depends only on each model's last event and on
the order of these events: a compacted topic gives the same state as the whole one. Compaction keeps
which models serve, the order of the champions, and for each model when, by whom and why its last
step was made, its share, metrics, bundle and hash (every event repeats them). It loses the steps
before the last one.

Readers accept every event that they can read, even if no step leads there: after compaction the
step cannot be checked. An event that cannot be read (noise, a newer schema, an unknown stage)
raises `BadMessage` and changes nothing: its model keeps its stage for as long as the topic holds
the event before. A tombstone removes a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

from schemas.codec import avro
from schemas.errors import BadMessage, ConfigurationError, ImpossibleTransition, InvalidField
from schemas.records import ModelEvent, Stage

STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
Present = Literal["UNREGISTERED", "FORMER_CHAMPION"] | Stage
"""Where a model stands. A champion that was replaced is a FORMER_CHAMPION: it serves again when all
later champions are retired or rolled back."""

STEPS: Final[Mapping[Present, tuple[Stage, ...]]] = {
    "UNREGISTERED": ("REGISTERED",),
    "REGISTERED": ("REGISTERED", "SHADOW", "CANARY", "CHAMPION", "RETIRED"),
    "SHADOW": ("CANARY", "CHAMPION", "RETIRED", "ROLLED_BACK"),
    "CANARY": ("CANARY", "SHADOW", "CHAMPION", "RETIRED", "ROLLED_BACK"),
    "CHAMPION": ("RETIRED", "ROLLED_BACK"),
    "FORMER_CHAMPION": ("CHAMPION", "RETIRED", "ROLLED_BACK"),
    "RETIRED": ("REGISTERED",),
    "ROLLED_BACK": ("REGISTERED",),
}
"""The steps from each stage. CANARY to CANARY changes the share; REGISTERED to REGISTERED replaces
the bundle. A retired or rolled-back model returns only by registering its bundle again.
"""


@dataclass(frozen=True, slots=True)
class ModelState:
    """Where one model stands, and its last event."""

    stage: Present
    event: ModelEvent

    @property
    def model_id(self) -> str:
        """Its name."""
        return self.event["model_id"]

    def document(self) -> dict[str, Any]:
        """Return the state for a JSON report; `since` in ISO 8601, UTC."""
        event = self.event
        since = datetime.fromtimestamp(event["occurred_at"] / 1e3, UTC)
        return {
            "model_id": event["model_id"],
            "stage": self.stage,
            "share": event["canary_share"],
            "since": since.isoformat(timespec="milliseconds"),
            "actor": event["actor"],
            "comment": event["comment"],
            "metrics": event["metrics"],
            "artefact_uri": event["artefact_uri"],
            "sha256": event["sha256"],
        }


@dataclass(slots=True)
class ModelStates:
    """Every model's last event, in the order in which they came. Iterating gives ModelState."""

    _last: dict[str, ModelEvent] = field(default_factory=dict)

    @classmethod
    def of(
        cls, log: Iterable[tuple[bytes | None, bytes | None]]
    ) -> tuple[ModelStates, list[BadMessage]]:
        """Return the state after the keys and values of the topic, and why some were ignored."""
        states, ignored = cls(), []
        for key, value in log:
            try:
                states.read(key, value)
            except BadMessage as error:
                ignored.append(error)
        return states, ignored

    def read(self, key: bytes | None, value: bytes | None) -> ModelEvent | None:
        """Apply one message of the topic; return its event, None for a tombstone.

        Raises:
            BadMessage: it cannot be read; the state has not changed.
        """
        model_id = (key or b"").decode(errors="replace")
        if value is None:
            self._last.pop(model_id, None)
            return None
        try:
            event = _decoded(model_id, value)
        except BadMessage as error:
            raise type(error)(
                f"event of model {model_id!r} ignored, which stays {self.stage(model_id)}: "
                f"{error.reason}",
                field=error.field,
                value=error.value,
            ) from error
        self.apply(event)
        return event

    def apply(self, event: ModelEvent) -> None:
        """Apply an event without checking its step."""
        self._last.pop(event["model_id"], None)
        self._last[event["model_id"]] = event

    def at(self, *stages: Stage) -> list[ModelEvent]:
        """Return the last events at `stages`, oldest first; at CHAMPION also former champions."""
        return [event for event in self._last.values() if event["stage"] in stages]

    def champions(self) -> list[ModelEvent]:
        """Return the champion, then the former champions in the order of succession."""
        return self.at("CHAMPION")[::-1]

    def stage(self, model_id: str) -> Present:
        """Return where a model stands."""
        event = self._last.get(model_id)
        if event is None:
            return "UNREGISTERED"
        if event["stage"] == "CHAMPION" and self.champions()[0] is not event:
            return "FORMER_CHAMPION"
        return event["stage"]

    def get(self, model_id: str) -> ModelState | None:
        """Return a model's state, None if it is not registered."""
        event = self._last.get(model_id)
        return None if event is None else ModelState(self.stage(model_id), event)

    def __iter__(self) -> Iterator[ModelState]:
        """Iterate over the models in the order of their last events."""
        champion = next(iter(self.champions()), None)
        for event in self._last.values():
            former = event["stage"] == "CHAMPION" and event is not champion
            yield ModelState("FORMER_CHAMPION" if former else event["stage"], event)

    def __len__(self) -> int:
        """Number of models."""
        return len(self._last)

    def registered(self, event: ModelEvent) -> None:
        """Check that a model may be registered by `event`.

        Raises:
            ConfigurationError: the event has another stage.
            ImpossibleTransition: the model is a shadow or canary, or serves.
        """
        if event["stage"] != "REGISTERED":
            raise ConfigurationError(
                f"{event['model_id']} is registered by an event of stage REGISTERED, "
                f"not {event['stage']}"
            )
        self._check(event["model_id"], "REGISTERED")

    def changed(
        self,
        model_id: str,
        stage: Stage,
        *,
        actor: str,
        comment: str | None,
        share: float | None,
        occurred_at: int,
    ) -> ModelEvent:
        """Return the event that moves a model to `stage`.

        A canary needs its `share` of the cards, above 0 and up to 1; no other stage has one.

        Raises:
            ImpossibleTransition: no step leads there from where the model stands.
            ConfigurationError: the share is missing, not allowed, or more than is left.
        """
        self._check(model_id, stage)
        if stage == "REGISTERED":
            raise ConfigurationError(f"{model_id} is registered with its bundle, not by a change")
        _check_share(model_id, stage, share, self.at("CANARY"))
        return {
            **self._last[model_id],
            "stage": stage,
            "canary_share": share,
            "occurred_at": occurred_at,
            "actor": actor,
            "comment": comment,
        }

    def _check(self, model_id: str, wanted: Stage) -> None:
        present = self.stage(model_id)
        if wanted not in STEPS[present]:
            raise ImpossibleTransition(model_id, present, wanted, STEPS[present])


def _decoded(model_id: str, value: bytes) -> ModelEvent:
    name, record = avro.decode(value)
    if name != "ModelEvent":
        raise InvalidField(f"it is a {name}, not a ModelEvent")
    if record["model_id"] != model_id:
        raise InvalidField(
            f"it is about {record['model_id']!r}: the key must be its model",
            field="model_id",
            value=record["model_id"],
        )
    return record  # type: ignore[return-value]


def _check_share(
    model_id: str, stage: Stage, share: float | None, canaries: Sequence[ModelEvent]
) -> None:
    if stage != "CANARY":
        if share is not None:
            raise ConfigurationError(f"{model_id}: a share is a canary's, {stage} has none")
        return
    if share is None or not 0.0 < share <= 1.0:
        raise ConfigurationError(
            f"{model_id}: a canary needs a share of the cards above 0 and up to 1, not {share}"
        )
    others = sum(each["canary_share"] or 0.0 for each in canaries if each["model_id"] != model_id)
    if others + share > 1.0 + 1e-9:
        raise ConfigurationError(
            f"{model_id}: other canaries have {others:g} of the cards, so {share:g} is too much: "
            f"give at most {max(1.0 - others, 0.0):g}"
        )
