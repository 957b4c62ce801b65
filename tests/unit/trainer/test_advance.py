"""A candidate goes on by age and decisions, one at a time, and what was rolled back never does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError, ImpossibleTransition
from schemas.features import HOUR
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent, Stage
from tests.unit.schemas.test_model_stages import event as bare
from trainer.registry import advance
from trainer.registry.advance import (
    ACTOR,
    AdvanceRules,
    Lately,
    StageStep,
    asks_for_proof,
    counted,
    not_loaded,
)

RULES = AdvanceRules(canary_decisions=100)


def event(model_id: str, stage: Stage, at: int, actor: str = ACTOR) -> ModelEvent:
    made = bare(model_id, stage, 0.1 if stage == "CANARY" else None, at=at)
    made["actor"] = actor
    return made


def states(*events: ModelEvent) -> ModelStates:
    found = ModelStates()
    for each in events:
        found.apply(each)
    return found


def moves(found: list[StageStep]) -> list[tuple[str, str]]:
    return [(step.model_id, step.stage) for step in found]


class Everybody(dict[str, int]):
    """Every model has made a decision."""

    def get(self, _model_id: str, _default: object = None) -> int:  # type: ignore[override]
        return 1


LOADED = Lately(1_000, Everybody())


def next_steps(
    found: ModelStates,
    rules: AdvanceRules,
    now_ms: int,
    decisions: dict[str, int],
    lately: Lately = LOADED,
) -> list[StageStep]:
    return advance.next_steps(found, rules, now_ms, decisions, lately)


SERVES = event("old", "CHAMPION", -99 * HOUR)


def test_a_shadow_is_tried_as_canary_after_its_time_and_not_before() -> None:
    on_trial = states(SERVES, event("new", "SHADOW", 0))
    assert next_steps(on_trial, RULES, 2 * HOUR - 1, {}) == []
    (step,) = next_steps(on_trial, RULES, 2 * HOUR, {})
    assert (step.model_id, step.stage, step.share) == ("new", "CANARY", 0.1)


def test_a_canary_is_promoted_by_age_and_decisions_or_by_the_longer_age() -> None:
    on_trial = states(SERVES, event("new", "CANARY", 0))
    assert next_steps(on_trial, RULES, 2 * HOUR - 1, {"new": 10**6}) == []
    assert next_steps(on_trial, RULES, 2 * HOUR, {"new": 99}) == []
    assert moves(next_steps(on_trial, RULES, 2 * HOUR, {"new": 100})) == [("new", "CHAMPION")]
    assert next_steps(on_trial, RULES, 24 * HOUR - 1, {}) == []
    assert moves(next_steps(on_trial, RULES, 24 * HOUR, {})) == [("new", "CHAMPION")]
    assert [each["model_id"] for each in counted(on_trial, RULES, 2 * HOUR)] == ["new"]
    assert counted(on_trial, RULES, 2 * HOUR - 1) == counted(on_trial, RULES, 24 * HOUR) == []


def test_a_trial_counts_beside_the_present_champion_only() -> None:
    on_trial = states(event("new", "CANARY", 0), event("other", "CHAMPION", 5 * HOUR))
    assert next_steps(on_trial, RULES, 6 * HOUR, {"new": 10**6}) == []
    assert moves(next_steps(on_trial, RULES, 7 * HOUR, {"new": 10**6})) == [("new", "CHAMPION")]


def test_a_champion_that_the_online_learner_adjusts_is_the_same_one() -> None:
    adjusted = event("old+online-2", "CHAMPION", HOUR, "online")
    on_trial = states(SERVES, event("new", "SHADOW", 0), adjusted)
    assert moves(next_steps(on_trial, RULES, 2 * HOUR, {})) == [("new", "CANARY")]
    on_trial = states(SERVES, event("new", "CANARY", 0), adjusted)
    assert [each["model_id"] for each in counted(on_trial, RULES, 2 * HOUR)] == ["new"]
    on_trial = states(event("new", "SHADOW", 0), adjusted)  # its base is not there to ask
    assert next_steps(on_trial, RULES, 3 * HOUR - 1, {}) == []
    assert moves(next_steps(on_trial, RULES, 3 * HOUR, {})) == [("new", "CANARY")]


def test_an_adjustment_as_canary_holds_no_candidate_up() -> None:
    beside = states(SERVES, event("old+online-1", "CANARY", 0, "online"), event("new", "SHADOW", 0))
    assert moves(next_steps(beside, RULES, 2 * HOUR, {})) == [("new", "CANARY")]


def test_a_model_that_was_rolled_back_or_that_a_person_tries_is_left_alone() -> None:
    for stage in ("ROLLED_BACK", "RETIRED", "REGISTERED"):
        assert next_steps(states(SERVES, event("new", stage, 0)), RULES, 99 * HOUR, {}) == []
    by_hand = states(SERVES, event("new", "SHADOW", 0, "jane"), event("two", "CANARY", 0, "jane"))
    assert next_steps(by_hand, RULES, 99 * HOUR, {}) == []
    anybody = AdvanceRules(actors=None)
    assert moves(next_steps(by_hand, anybody, 99 * HOUR, {})) == [("two", "CHAMPION")]


def test_a_newer_candidate_retires_the_older_unless_that_one_is_just_ripe() -> None:
    two = states(SERVES, event("a", "SHADOW", 0), event("b", "SHADOW", HOUR))
    assert moves(next_steps(two, RULES, HOUR, {})) == [("a", "RETIRED")]
    assert moves(next_steps(two, RULES, 2 * HOUR, {})) == [("a", "CANARY")]
    assert moves(next_steps(two, RULES, 3 * HOUR, {})) == [("b", "CANARY"), ("a", "RETIRED")]


def test_no_shadow_goes_on_beside_a_canary_of_anybody() -> None:
    beside = states(SERVES, event("two", "CANARY", 0, "jane"), event("new", "SHADOW", 0))
    assert next_steps(beside, RULES, 99 * HOUR, {}) == []
    ours = states(SERVES, event("two", "CANARY", 0), event("new", "SHADOW", 0))
    assert moves(next_steps(ours, RULES, 2 * HOUR, {"two": 100})) == [("two", "CHAMPION")]


def test_without_a_champion_a_shadow_becomes_it() -> None:
    alone = states(event("first", "SHADOW", 0))
    assert next_steps(alone, RULES, HOUR, {}) == []
    assert moves(next_steps(alone, RULES, 2 * HOUR, {})) == [("first", "CHAMPION")]


def test_former_champions_beyond_the_last_three_are_retired() -> None:
    line = [event(f"c{n}", "CHAMPION", n) for n in range(5)]
    assert next_steps(states(*line[1:]), RULES, HOUR, {}) == []
    assert moves(next_steps(states(*line), RULES, HOUR, {})) == [("c0", "RETIRED")]
    promoting = states(*line[1:], event("new", "CANARY", 9))
    found = next_steps(promoting, RULES, 99 * HOUR, {})
    assert moves(found) == [("new", "CHAMPION"), ("c1", "RETIRED")]


OTHERS = Lately(1_000, {"old": 1_000})
"""Scorers decide, and have loaded nothing but the champion."""


@pytest.mark.parametrize("stage", ["SHADOW", "CANARY"])
def test_a_model_that_no_scorer_has_loaded_never_moves_up_and_is_retired(stage: Stage) -> None:
    on_trial = states(SERVES, event("new", stage, 0))
    assert next_steps(on_trial, RULES, 24 * HOUR - 1, {}, OTHERS) == []
    (step,) = next_steps(on_trial, RULES, 24 * HOUR, {}, OTHERS)
    assert (step.model_id, step.stage) == ("new", "RETIRED")
    assert "no scorer has loaded it: none of 1,000 decisions has it" in step.why
    assert [each["model_id"] for each in not_loaded(on_trial, RULES, 2 * HOUR, OTHERS)] == ["new"]
    assert not_loaded(on_trial, RULES, 2 * HOUR - 1, OTHERS) == []
    assert not_loaded(on_trial, RULES, 2 * HOUR, Lately(9, {"new": 1})) == []


@pytest.mark.parametrize("stage", ["SHADOW", "CANARY"])
def test_without_traffic_a_candidate_waits(stage: Stage) -> None:
    on_trial = states(SERVES, event("new", stage, 0))
    assert next_steps(on_trial, RULES, 99 * HOUR, {}, Lately()) == []
    few = Lately(49 if stage == "SHADOW" else 499, {"old": 49})
    assert next_steps(on_trial, RULES, 99 * HOUR, {}, few) == []


def test_a_hundred_days_of_bundles_that_no_scorer_loads_leave_the_champion() -> None:
    """Once four of them in a row had made every loadable champion a retired one."""
    found = states(SERVES)
    for day in range(100):
        now = 24 * day * HOUR
        found.apply(event(f"new-{day}", "SHADOW", now))
        for hour in range(24):
            for step in next_steps(found, RULES, now + hour * HOUR, {}, OTHERS):
                made = found.changed(
                    step.model_id, step.stage, actor=ACTOR, comment=step.why, share=step.share,
                    occurred_at=now + hour * HOUR,
                )  # fmt: skip
                found.apply(made)
    assert [each["model_id"] for each in found.champions()] == ["old"]


def test_former_champions_are_kept_until_the_champion_has_been_loaded() -> None:
    line = states(*(event(f"c{n}", "CHAMPION", n) for n in range(5)))
    assert asks_for_proof(line, RULES, HOUR)
    assert next_steps(line, RULES, HOUR, {}, Lately(1_000, {"c3": 1_000})) == []
    assert moves(next_steps(line, RULES, HOUR, {}, Lately(1_000, {"c4": 1}))) == [("c0", "RETIRED")]


def test_times_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="FRAUD_CANARY_AT_MOST"):
        AdvanceRules(canary_ms=2 * HOUR, canary_max_ms=HOUR)


STAGES = st.sampled_from(["SHADOW", "CANARY", "CHAMPION", "RETIRED", "ROLLED_BACK"])


@given(
    st.lists(st.tuples(STAGES, st.integers(0, 40), st.sampled_from([ACTOR, "jane"])), max_size=9),
    st.dictionaries(st.sampled_from(["m0", "m1", "m2"]), st.integers(0, 200)),
)
def test_steps_are_possible_move_up_one_model_at_most_and_come_to_an_end(
    models: list[tuple[Stage, int, str]], decisions: dict[str, int]
) -> None:
    found = states(
        *(event(f"m{n}", stage, at * HOUR, actor) for n, (stage, at, actor) in enumerate(models))
    )
    for model in found:  # shares as small as people give them
        model.event["canary_share"] = 0.05 if model.stage == "CANARY" else None
    dropped = {model.model_id for model in found if model.stage in {"RETIRED", "ROLLED_BACK"}}
    for round_ in range(20):
        now = (41 + 30 * round_) * HOUR
        steps = next_steps(found, RULES, now, decisions)
        if not steps and round_ > 3:
            break
        assert sum(step.stage != "RETIRED" for step in steps) <= 1
        assert not dropped & {step.model_id for step in steps}
        for step in steps:
            try:
                found.apply(
                    found.changed(
                        step.model_id, step.stage, actor=ACTOR, comment=step.why, share=step.share,
                        occurred_at=now,
                    )
                )  # fmt: skip
            except ImpossibleTransition as error:  # pragma: no cover
                pytest.fail(f"{step}: {error}")
            if step.stage == "RETIRED":
                dropped.add(step.model_id)
    else:
        pytest.fail("steps without an end")
