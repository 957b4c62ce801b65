"""The guard at work: judges canaries and a fresh champion, and takes a bad one out.

`Registry` is all that it needs of the model registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from monitor.guard import GuardRules, Verdict, judge
from monitor.models import Models
from monitor.observe import Observations
from schemas.features import HOUR
from schemas.records import Stage

ACTOR: Final = "monitor"
REFERENCE_HOURS: Final = 24
"""How far before a promotion the record of the previous champion goes."""


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

    A canary is held against the champion over the same hours, a champion younger than
    `rules.fresh_ms` against the champion before it over the day before the change.
    """
    champion = models.champion
    if champion is None:
        return
    until = now_ms // HOUR + 2
    for canary in models.canaries:
        hours = range(canary["occurred_at"] // HOUR, until)
        found = judge(
            seen.sample(canary["model_id"], hours, now_ms),
            seen.sample(champion["model_id"], hours, now_ms),
            rules,
        )
        if found is not None:
            yield Found(canary["model_id"], "CANARY", champion["model_id"], found)
    since = champion["occurred_at"]
    if models.previous is None or now_ms - since > rules.fresh_ms:
        return
    hour = since // HOUR
    found = judge(
        seen.sample(champion["model_id"], range(hour, until), now_ms),
        seen.sample(models.previous, range(hour - REFERENCE_HOURS, hour + 1), now_ms),
        rules,
    )
    if found is not None:
        yield Found(champion["model_id"], "CHAMPION", models.previous, found)
