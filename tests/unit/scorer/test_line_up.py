"""The state of the models topic, and who serves by it."""

from __future__ import annotations

from scorer.line_up import LineUp, line_up
from tests.unit.schemas.test_model_stages import event, folded


def names(found: LineUp) -> tuple[str | None, list[str], list[str]]:
    champion = found.champion["model_id"] if found.champion else None
    return (
        champion,
        [each["model_id"] for each in found.canaries],
        [each["model_id"] for each in found.shadows],
    )


def test_a_models_newest_event_counts() -> None:
    states = folded(
        event("a", "REGISTERED"), event("a", "CHAMPION"), event("b", "SHADOW"),
        event("c", "CANARY", 0.1), event("d", "SHADOW"), event("b", "CANARY", 0.2),
        event("e", "RETIRED"), event("f", "REGISTERED"),
    )  # fmt: skip
    assert names(line_up(states)) == ("a", ["c", "b"], ["d"])


def test_rolling_the_champion_back_puts_the_one_before_in_its_place() -> None:
    states = folded(event("a", "CHAMPION"), event("b", "CHAMPION"))
    assert names(line_up(states))[0] == "b"
    states.apply(event("b", "ROLLED_BACK"))
    assert names(line_up(states))[0] == "a"
    states.apply(event("a", "RETIRED"))
    assert names(line_up(states))[0] is None


def test_a_refused_bundle_leaves_its_place_until_it_comes_with_another_hash() -> None:
    states = folded(event("a", "CHAMPION"), event("b", "CHAMPION"))
    assert names(line_up(states, {"b": "hash of b"}))[0] == "a"
    assert names(line_up(states, {"b": "another hash"}))[0] == "b"


def test_a_refused_canary_or_shadow_leaves_its_place_to_nobody() -> None:
    states = folded(
        event("a", "CANARY", 0.1), event("b", "CANARY", 0.2), event("c", "SHADOW"),
        event("d", "SHADOW"),
    )  # fmt: skip
    refused = {"a": "hash of a", "d": "hash of d"}
    assert names(line_up(states, refused)) == (None, ["b"], ["c"])
