"""The guard at work: judges canaries and a fresh champion, and takes a bad one out.

`Registry` is all that it needs of the model registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from monitor.judge.guard import GuardRules, Verdict, judge
from monitor.observe.observations import Observations
from monitor.observe.served_models import Models
from schemas.features import HOUR
from schemas.records import Stage

ACTOR: Final = "monitor"
REFERENCE_HOURS: Final = 24
"""In so many hours, the newest in which it decided, a previous champion is a reference."""


class Registry(Protocol):
    """Changes the stage of a model."""

    def change(self, model_id: str, stage: Stage, *, actor: str, comment: str) -> object:
        """Put a model at a stage; returns when that is written.

        Raises:
            FraudError: the stage was not changed.
        """


@dataclass(frozen=True, slots=True)
class Found:
    """A model that is certainly worse, and than which."""

    model_id: str
    stage: str
    against: str
    verdict: Verdict


def worse(models: Models, seen: Observations, rules: GuardRules, now_ms: int) -> Iterator[Found]:
    """Yield each canary and fresh champion that is certainly worse than its reference.

    A model is judged by the event hours in which it has decided since it came to its stage,
    whatever the clock said of them: behind a backlog they lie before its start, and so they do in
    replayed history. A canary is held against the champion over the same hours, a champion younger
    than `rules.fresh_ms` against the one before it over the last day in which that one decided.
    Where its start is later than `now_ms`, which then is the time of replayed events, its age
    counts from the first hour in which it decided.
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
            yield Found(canary["model_id"], "CANARY", champion["model_id"], found)
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
        yield Found(champion["model_id"], "CHAMPION", models.previous, found)
