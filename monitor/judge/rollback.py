"""Applies the guard to canaries and to a fresh champion, and finds the models to roll back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from monitor.judge.guard import GuardRules, Verdict, judge
from monitor.observe.observations import Observations
from monitor.observe.served_models import ServedModels
from schemas.features import HOUR
from schemas.records import Stage

ACTOR: Final = "monitor"
REFERENCE_HOURS: Final = 24
"""A previous champion is a reference by the newest hours, this many, in which it decided."""


class StageRegistry(Protocol):
    """Changes the stage of a model."""

    def change(self, model_id: str, stage: Stage, *, actor: str, comment: str) -> object:
        """Move a model to a stage; return once that is written.

        Raises:
            FraudError: the stage was not changed.
        """


@dataclass(frozen=True, slots=True)
class WorseModel:
    """A model that is certainly worse than another."""

    model_id: str
    stage: str
    against: str
    verdict: Verdict


def worse_models(
    models: ServedModels, seen: Observations, rules: GuardRules, now_ms: int
) -> Iterator[WorseModel]:
    """Yield each canary and fresh champion that is certainly worse than its reference.

    A model is judged by the event hours in which it has decided since it reached its stage. Behind
    a backlog, or in replayed history, those hours lie before its start. A canary is compared with
    the champion over the same hours. A champion younger than `rules.fresh_ms` is compared with its
    predecessor, over the last day in which that one decided. If a champion starts later than
    `now_ms`, which is then the time of replayed events, its age counts from its first hour.
    """
    champion = models.champion
    if champion is None:
        return
    for canary in models.canaries:
        hours = seen.active.since(canary["model_id"], canary["occurred_at"])
        found = judge(
            seen.sample(canary["model_id"], hours, now_ms),
            seen.sample(champion["model_id"], hours, now_ms),
            rules,
        )
        if found is not None:
            yield WorseModel(canary["model_id"], "CANARY", champion["model_id"], found)
    since = champion["occurred_at"]
    hours = seen.active.since(champion["model_id"], since)
    if models.previous is None or not hours:
        return
    began = since if since <= now_ms else hours[0] * HOUR
    if now_ms - began > rules.fresh_ms:
        return
    found = judge(
        seen.sample(champion["model_id"], hours, now_ms),
        seen.sample(models.previous, seen.active.since(models.previous)[-REFERENCE_HOURS:], now_ms),
        rules,
    )
    if found is not None:
        yield WorseModel(champion["model_id"], "CHAMPION", models.previous, found)
