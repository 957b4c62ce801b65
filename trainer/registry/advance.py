"""How a candidate moves on by itself: SHADOW, CANARY, CHAMPION, by its age and its decisions.

No age alone moves a model up: decisions must show that a scorer has loaded it. Bundles may be
refused by every scorer, because they lie where no scorer sees them or are not signed as they must.

Pure. Only models that the trainer itself put on trial move on, because they have passed the gates.
A model that a person put there is for a person to move. A model that was rolled back is no longer
on trial, so nothing here brings it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from schemas.errors import ConfigurationError
from schemas.features import HOUR
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent, Stage
from schemas.words.quantities import duration
from trainer.registry.adjusted import base_of

ACTOR: Final = "trainer"
"""The trainer's name in the registry."""
MISSED: Final = 50.0
"""A model that should be in so many decisions and is in none has not been loaded: with a share of
the cards, chance alone would do that once in exp(50) times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceRules:
    """When a candidate goes on.

    A SHADOW becomes a CANARY with `share` (0, 1] of the cards after `shadow_ms`. That becomes the
    CHAMPION after `canary_ms`, when it has also made `canary_decisions`, or with fewer after
    `canary_max_ms`. One that no scorer has loaded after `canary_max_ms` is retired. `former` former
    champions are kept to roll back to. Those that `actors` put on
    trial are moved; None: everybody's.
    """

    shadow_ms: int = 2 * HOUR
    canary_ms: int = 2 * HOUR
    canary_decisions: int = 1_000
    canary_max_ms: int = 24 * HOUR
    share: float = 0.1
    former: int = 3
    actors: frozenset[str] | None = frozenset({ACTOR})

    def __post_init__(self) -> None:
        """Raise ConfigurationError if the times contradict each other."""
        if self.canary_max_ms < self.canary_ms:
            raise ConfigurationError(
                "FRAUD_CANARY_AT_MOST is shorter than FRAUD_CANARY_FOR: a canary cannot end before "
                "it has to"
            )


@dataclass(frozen=True, slots=True)
class Lately:
    """What the decisions of the last minutes show: how many they are, and of which models.

    `by_model` counts those that a model made, or that hold its score as a shadow.
    """

    decisions: int = 0
    by_model: Mapping[str, int] = field(default_factory=dict)

    def shows(self, model_id: str) -> bool:
        """Whether a scorer has loaded the model."""
        return self.by_model.get(model_id, 0) > 0

    def misses(self, event: ModelEvent) -> bool:
        """Whether no scorer has loaded a model that should be in many of the decisions."""
        share = 1.0 if event["canary_share"] is None else event["canary_share"]
        return self.decisions * share >= MISSED and not self.shows(event["model_id"])


@dataclass(frozen=True, slots=True)
class StageStep:
    """One change of stage, and why in words; `share` is a canary's."""

    model_id: str
    stage: Stage
    share: float | None
    why: str


def next_steps(
    states: ModelStates,
    rules: AdvanceRules,
    now_ms: int,
    decisions: Mapping[str, int],
    lately: Lately,
) -> list[StageStep]:
    """Return the steps that are due, in order; at most one model moves up.

    Ages count from when the model came to its stage, or from when the present champion did if that
    is later: a trial beside another champion proves nothing. A champion that the online learner has
    adjusted counts from when its base became champion: else no trial would outlast new weights.
    `decisions` are those that a canary has made since it became one; a model that is not named made
    none. `lately` shows which models scorers have loaded: no other one moves up.

    - One canary at a time: while there is one, no shadow moves on. An adjustment is not a trial: it
      is used for as long as it is better.
    - Of several candidates the newest stays; one that is older is retired, a shadow not before it
      could have gone on. So a trial needs to be shorter than the time between two trainings.
    - Without a champion a shadow becomes champion after its time: there is nothing to compare with.
    - Former champions are kept for as long as the champion itself has not been loaded: they serve.
    """
    champions = states.champions()
    champion = _trained(champions)
    shadows = _ours(states, "SHADOW", rules)
    canaries = _ours(states, "CANARY", rules)
    steps = [_retired(event, f"{canaries[-1]['model_id']} is newer") for event in canaries[:-1]]
    up = None
    if canaries:
        up = _promoted(canaries[-1], champion, rules, now_ms, decisions, lately)
    elif not any(base_of(event["model_id"]) == event["model_id"] for event in states.at("CANARY")):
        up = _tried(shadows, champion, rules, now_ms, lately)
    if up is not None:
        steps.append(up)
    going = up.model_id if up is not None else None
    steps += [
        _retired(event, f"{shadows[-1]['model_id']} is newer")
        for event in shadows[:-1]
        if event["model_id"] != going
    ]
    steps += [
        _retired(event, f"no scorer has loaded it: none of {lately.decisions:,} decisions has it")
        for event in (*canaries[-1:], *shadows[-1:])
        if _age(event, champion, now_ms) >= rules.canary_max_ms and lately.misses(event)
    ]
    if champions and lately.shows(champions[0]["model_id"]):
        kept = rules.former + (1 if up is None or up.stage != "CHAMPION" else 0)
        steps += [
            _retired(event, f"{rules.former} newer former champions are kept")
            for event in champions[kept:]
        ]
    return steps


def not_loaded(
    states: ModelStates, rules: AdvanceRules, now_ms: int, lately: Lately
) -> list[ModelEvent]:
    """Return the models that would move on by their age, if a scorer had loaded them."""
    champion = _trained(states.champions())
    return [
        event
        for stage, least in (("SHADOW", rules.shadow_ms), ("CANARY", rules.canary_ms))
        for event in _ours(states, cast(Stage, stage), rules)
        if _age(event, champion, now_ms) >= least and not lately.shows(event["model_id"])
    ]


def asks_for_proof(states: ModelStates, rules: AdvanceRules, now_ms: int) -> bool:
    """Whether `next_steps` depends on what decisions show."""
    return bool(not_loaded(states, rules, now_ms, Lately())) or (
        len(states.champions()) > rules.former + 1
    )


def counted(states: ModelStates, rules: AdvanceRules, now_ms: int) -> list[ModelEvent]:
    """Return the canaries whose number of decisions `next_steps` would ask for now."""
    champion = _trained(states.champions())
    return [
        event
        for event in _ours(states, "CANARY", rules)
        if rules.canary_ms <= _age(event, champion, now_ms) < rules.canary_max_ms
    ]


def _ours(states: ModelStates, stage: Stage, rules: AdvanceRules) -> list[ModelEvent]:
    actors = rules.actors
    return [event for event in states.at(stage) if actors is None or event["actor"] in actors]


def _trained(champions: list[ModelEvent]) -> ModelEvent | None:
    """Return the champion, for an adjusted one its base if that is among the former champions."""
    if not champions:
        return None
    base = base_of(champions[0]["model_id"])
    return next((event for event in champions if event["model_id"] == base), champions[0])


def _age(event: ModelEvent, champion: ModelEvent | None, now_ms: int) -> int:
    since = event["occurred_at"]
    return now_ms - (since if champion is None else max(since, champion["occurred_at"]))


def _tried(
    shadows: list[ModelEvent],
    champion: ModelEvent | None,
    rules: AdvanceRules,
    now_ms: int,
    lately: Lately,
) -> StageStep | None:
    ripe = [
        event
        for event in shadows
        if _age(event, champion, now_ms) >= rules.shadow_ms and lately.shows(event["model_id"])
    ]
    if not ripe:
        return None
    model_id, why = ripe[-1]["model_id"], f"{duration(rules.shadow_ms)} as shadow"
    if champion is None:
        return StageStep(model_id, "CHAMPION", None, f"{why}, and there is no champion")
    return StageStep(model_id, "CANARY", rules.share, why)


def _promoted(
    canary: ModelEvent,
    champion: ModelEvent | None,
    rules: AdvanceRules,
    now_ms: int,
    decisions: Mapping[str, int],
    lately: Lately,
) -> StageStep | None:
    age, made = _age(canary, champion, now_ms), decisions.get(canary["model_id"], 0)
    if age < rules.canary_ms:
        return None
    if made < rules.canary_decisions and age < rules.canary_max_ms:
        return None
    if not lately.shows(canary["model_id"]):
        return None
    why = f"{duration(age)} as canary and {made:,} decisions, not rolled back"
    return StageStep(canary["model_id"], "CHAMPION", None, why)


def _retired(event: ModelEvent, why: str) -> StageStep:
    return StageStep(event["model_id"], "RETIRED", None, why)
