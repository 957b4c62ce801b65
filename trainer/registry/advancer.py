"""Moves candidates on in the registry, or logs that they could, where a person decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pyarrow.compute as pc
import structlog

from runtime.clock import Clock
from runtime.kafka.model_registry import ModelRegistry
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.errors import ConfigurationError, FraudError
from schemas.features import DAY, MINUTE
from schemas.records import ModelEvent
from trainer.archive.delta_tables import Archive
from trainer.registry.advance import (
    ACTOR,
    AdvanceRules,
    Lately,
    StageStep,
    asks_for_proof,
    counted,
    next_steps,
    not_loaded,
)

log = structlog.get_logger(__name__)
EVERY_S: Final = 60.0
LATELY_MS: Final = 5 * MINUTE
"""How far back decisions are looked at for the models that scorers have loaded."""
_EVENT_AGE_MS: Final = DAY
"""Transactions that are older than that when they are decided are not counted."""


def rules_of(settings: Settings) -> AdvanceRules:
    """Return the rules that the settings ask for.

    Raises:
        ConfigurationError: they contradict each other.
    """
    return AdvanceRules(
        shadow_ms=settings.shadow_for.ms,
        canary_ms=settings.canary_for.ms,
        canary_decisions=settings.canary_decisions,
        canary_max_ms=settings.canary_at_most.ms,
        share=settings.canary_share,
    )


class Advancer:
    """Takes the steps that are due.

    Args:
        made: returns how many decisions a canary has made since the event that made it one.
        lately: returns what the decisions of the last minutes show.
        approval: a person takes the steps; they are only logged, for every model on trial.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        rules: AdvanceRules,
        made: Callable[[ModelEvent], int],
        lately: Callable[[], Lately],
        *,
        approval: bool,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._registry, self._made, self._lately, self._approval = registry, made, lately, approval
        self._rules = replace(rules, actors=None) if approval else rules
        self._clock, self._metrics = clock, metrics
        self._logged: set[StageStep] = set()
        self._unloaded: set[str] = set()

    def due(self) -> list[StageStep]:
        """Take the steps that are due, or only log them; return them. Blocks.

        A step that another writer has made impossible meanwhile is left out: the next call looks at
        the state again.

        Raises:
            TemporaryError: Kafka or the archive does not answer; steps may have been taken.
        """
        states, now = self._registry.states(), self._clock.now_ms()
        decisions = {
            event["model_id"]: self._made(event) for event in counted(states, self._rules, now)
        }
        lately = self._lately() if asks_for_proof(states, self._rules, now) else Lately()
        self._tell_unloaded(not_loaded(states, self._rules, now, lately), lately)
        steps = next_steps(states, self._rules, now, decisions, lately)
        if self._approval:
            self._log(steps)
            return steps
        return [step for step in steps if self._take(step)]

    def _take(self, step: StageStep) -> bool:
        try:
            self._registry.change(
                step.model_id, step.stage, actor=ACTOR, comment=step.why, share=step.share
            )
        except ConfigurationError as error:
            log.warning("step not taken", model_id=step.model_id, reason=str(error))
            return False
        log.info("advanced", model_id=step.model_id, stage=step.stage, why=step.why)
        self._metrics.count("advances", stage=step.stage)
        return True

    def _tell_unloaded(self, events: list[ModelEvent], lately: Lately) -> None:
        found = {event["model_id"] for event in events}
        for model_id in sorted(found - self._unloaded):
            log.warning(
                "waits until a scorer has loaded it", model_id=model_id, decisions=lately.decisions
            )
        self._unloaded = found
        self._metrics.set("advances_unloaded", len(found))

    def _log(self, steps: list[StageStep]) -> None:
        waiting = {replace(step, why="") for step in steps}
        for step in steps:
            if replace(step, why="") not in self._logged:
                log.warning(
                    "waits for a person", model_id=step.model_id, stage=step.stage, why=step.why
                )
        self._logged = waiting
        self._metrics.set("advances_waiting", len(waiting))


class ArchivedDecisions:
    """What the archive's decisions say of the models."""

    def __init__(self, archive: Archive, clock: Clock, *, behind_ms: int) -> None:
        self._archive, self._clock = archive, clock
        self._behind_ms = behind_ms
        """Younger decisions may not be archived yet, and are counted by a later call."""
        self._counts: dict[tuple[str, int], tuple[int, int]] = {}

    def made(self, canary: ModelEvent) -> int:
        """Return how many decisions it has made since its event; 0 without an archive. Blocks.

        Each call reads only those since the last.
        """
        key = canary["model_id"], canary["occurred_at"]
        since, count = self._counts.get(key, (canary["occurred_at"], 0))
        until = self._clock.now_ms() - self._behind_ms
        if until <= since:
            return count
        day = (since - _EVENT_AGE_MS) // DAY
        where = (
            (pc.field("event_date") >= pc.scalar(day).cast("int32").cast("date32"))
            & (pc.field("decided_at") >= since * 1000)
            & (pc.field("decided_at") < until * 1000)
            & (pc.field("model_id") == canary["model_id"])
            & (pc.field("model_role") == "CANARY")
        )
        try:
            rows = self._archive.read("decisions", columns=["decided_at"], where=where)
        except FraudError as error:
            log.warning("decisions not counted", model_id=key[0], reason=str(error))
            return count
        count += len(rows)
        self._counts = {key: (until, count)}
        return count

    def lately(self) -> Lately:
        """Return what the newest decisions show; nothing without an archive. Blocks."""
        until = self._clock.now_ms() - self._behind_ms
        since = until - LATELY_MS
        day = (since - _EVENT_AGE_MS) // DAY
        where = (pc.field("event_date") >= pc.scalar(day).cast("int32").cast("date32")) & (
            pc.field("decided_at") >= since * 1000
        )
        try:
            rows = self._archive.read("decisions", columns=["model_id", "shadows"], where=where)
        except FraudError as error:
            log.warning("decisions not looked at", reason=str(error))
            return Lately()
        shadows = pc.list_flatten(rows.column("shadows"))
        by_model: Counter[str] = Counter()
        for column in (rows.column("model_id"), pc.struct_field(shadows, "model_id")):
            for each in pc.value_counts(column.drop_null()).to_pylist():
                by_model[each["values"]] += each["counts"]
        return Lately(len(rows), by_model)
