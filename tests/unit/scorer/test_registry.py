"""Events of the models topic, folded to who serves."""

from __future__ import annotations

from schemas.records import ModelEvent, Stage
from scorer.registry import Line, Registry


def event(model_id: str, stage: Stage, share: float | None = None) -> ModelEvent:
    return {
        "model_id": model_id,
        "stage": stage,
        "canary_share": share,
        "artefact_uri": "file:///x",
        "sha256": f"hash of {model_id}",
        "fingerprint": b"12345678",
        "metrics": {},
        "occurred_at": 1,
        "actor": "test",
        "comment": None,
    }


def names(line: Line) -> tuple[str | None, list[str], list[str]]:
    champion = line.champion["model_id"] if line.champion else None
    return (
        champion,
        [each["model_id"] for each in line.canaries],
        [each["model_id"] for each in line.shadows],
    )


def folded(*events: ModelEvent) -> Registry:
    registry = Registry()
    for each in events:
        registry.apply(each)
    return registry


def test_a_models_newest_event_counts() -> None:
    registry = folded(
        event("a", "REGISTERED"), event("a", "CHAMPION"), event("b", "SHADOW"),
        event("c", "CANARY", 0.1), event("b", "CANARY", 0.2),
    )  # fmt: skip
    assert names(registry.line()) == ("a", ["c", "b"], [])


def test_rolling_the_champion_back_puts_the_one_before_in_its_place() -> None:
    registry = folded(event("a", "CHAMPION"), event("b", "CHAMPION"))
    assert names(registry.line())[0] == "b"
    registry.apply(event("b", "ROLLED_BACK"))
    assert names(registry.line())[0] == "a"
    registry.apply(event("a", "RETIRED"))
    assert names(registry.line())[0] is None


def test_a_refused_bundle_leaves_its_place_until_it_comes_with_another_hash() -> None:
    registry = folded(event("a", "CHAMPION"), event("b", "CHAMPION"))
    assert names(registry.line({"b": "hash of b"}))[0] == "a"
    assert names(registry.line({"b": "another hash"}))[0] == "b"


def test_a_tombstone_removes_a_model() -> None:
    registry = folded(event("a", "CHAMPION"))
    registry.forget("a")
    assert names(registry.line()) == (None, [], [])
