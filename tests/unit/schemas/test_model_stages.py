"""Stages of models: the steps between them, and the state that a log of events gives."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import avro
from schemas.errors import BadMessage, ConfigurationError, ImpossibleTransition
from schemas.model_stages import STAGES, STEPS, ModelStates, Present
from schemas.records import ModelEvent, Stage

Log = list[tuple[bytes, bytes | None]]


def event(model_id: str, stage: Stage, share: float | None = None, *, at: int = 1) -> ModelEvent:
    return {
        "model_id": model_id,
        "stage": stage,
        "canary_share": share,
        "artefact_uri": "file:///x",
        "sha256": f"hash of {model_id}",
        "fingerprint": b"12345678",
        "metrics": {"auc": 0.9},
        "occurred_at": at,
        "actor": "test",
        "comment": None,
    }


def folded(*events: ModelEvent) -> ModelStates:
    states = ModelStates()
    for each in events:
        states.apply(each)
    return states


def change(states: ModelStates, model_id: str, stage: Stage, share: float | None = None) -> None:
    states.apply(
        states.changed(
            model_id, stage, actor="jane", comment="why", share=share, occurred_at=1_700_000_000_500
        )
    )


def compacted(log: Log) -> Log:
    """What Kafka keeps: the last message of each key, in the order of the log."""
    last = {key: place for place, (key, _) in enumerate(log)}
    return [log[place] for place in sorted(last.values())]


def served(states: ModelStates) -> list[tuple[str, Present, ModelEvent]]:
    return [(each.model_id, each.stage, each.event) for each in states]


steps = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.sampled_from([*STAGES, None]),
        st.sampled_from([None, 0.1, 0.5]),
    ),
    max_size=40,
)


@given(steps)
def test_a_compacted_log_gives_the_same_state(
    found: list[tuple[str, Stage | None, float | None]],
) -> None:
    log: Log = [
        (
            name.encode(),
            None
            if stage is None
            else avro.encode("ModelEvent", event(name, stage, share, at=place)),
        )
        for place, (name, stage, share) in enumerate(found)
    ]
    whole, _ = ModelStates.of(log)
    kept, _ = ModelStates.of(compacted(log))
    assert served(whole) == served(kept)
    assert whole.champions() == kept.champions()
    assert sum(state.stage == "CHAMPION" for state in whole) == bool(whole.champions())
    assert [state.stage for state in whole] == [whole.stage(state.model_id) for state in whole]


def test_every_place_has_steps_and_every_stage_can_be_reached() -> None:
    places = {name for part in get_args(Present) for name in get_args(part) or (part,)}
    assert set(STEPS) == places
    assert {stage for possible in STEPS.values() for stage in possible} == set(STAGES)


def test_a_model_goes_from_registration_to_retirement() -> None:
    states = folded(event("a", "REGISTERED"))
    for stage, share in (
        ("SHADOW", None), ("CANARY", 0.05), ("CANARY", 0.2), ("CHAMPION", None), ("RETIRED", None),
    ):  # fmt: skip
        change(states, "a", stage, share)  # type: ignore[arg-type]
        assert states.stage("a") == stage
    state = states.get("a")
    assert state is not None
    assert state.document() == {
        "model_id": "a",
        "stage": "RETIRED",
        "share": None,
        "since": "2023-11-14T22:13:20.500+00:00",
        "actor": "jane",
        "comment": "why",
        "metrics": {"auc": 0.9},
        "artefact_uri": "file:///x",
        "sha256": "hash of a",
    }


def test_former_champions_serve_again_one_after_the_other() -> None:
    states = folded(*(event(name, "CHAMPION") for name in "abc"))
    assert [states.stage(name) for name in "abc"] == [
        "FORMER_CHAMPION", "FORMER_CHAMPION", "CHAMPION",
    ]  # fmt: skip
    change(states, "b", "RETIRED")
    change(states, "c", "ROLLED_BACK")
    assert states.stage("a") == "CHAMPION"
    change(states, "a", "RETIRED")
    assert states.champions() == []


@pytest.mark.parametrize(
    ("history", "wanted", "possible"),
    [
        ([], "SHADOW", "REGISTERED, by registering its bundle"),
        (["REGISTERED"], "ROLLED_BACK", "SHADOW or CANARY or CHAMPION or RETIRED"),
        (["CHAMPION"], "CHAMPION", "RETIRED or ROLLED_BACK"),
        (["CHAMPION"], "SHADOW", "RETIRED or ROLLED_BACK"),
        (["CHAMPION", "RETIRED"], "CHAMPION", "REGISTERED, by registering its bundle"),
        (["CHAMPION", "ROLLED_BACK"], "CHAMPION", "REGISTERED, by registering its bundle"),
    ],
)
def test_an_impossible_step_is_named(history: list[Stage], wanted: Stage, possible: str) -> None:
    states = folded(*(event("m7", stage) for stage in history))
    with pytest.raises(ImpossibleTransition) as raised:
        change(states, "m7", wanted)
    text = str(raised.value)
    present = history[-1] if history else "UNREGISTERED"
    assert f"m7 is {present} and cannot become {wanted}" in text
    assert possible in text
    assert isinstance(raised.value, ConfigurationError)


def test_what_was_rolled_back_returns_by_registration_only() -> None:
    states = folded(event("a", "CHAMPION"), event("b", "CHAMPION"), event("b", "ROLLED_BACK"))
    again = event("b", "REGISTERED", at=5)
    states.registered(again)
    states.apply(again)
    assert [each["model_id"] for each in states.champions()] == ["a"]
    change(states, "b", "CHAMPION")
    assert [each["model_id"] for each in states.champions()] == ["b", "a"]
    with pytest.raises(ImpossibleTransition, match="b is CHAMPION"):
        states.registered(event("b", "REGISTERED"))


@pytest.mark.parametrize(
    ("stage", "share", "said"),
    [
        ("CANARY", None, "needs a share"),
        ("CANARY", 0.0, "needs a share"),
        ("CANARY", float("nan"), "needs a share"),
        ("CANARY", 0.5, "at most 0.3"),
        ("CHAMPION", 0.5, "a share is a canary's"),
    ],
)
def test_shares_are_a_canarys_and_do_not_overlap(
    stage: Stage, share: float | None, said: str
) -> None:
    states = folded(event("a", "CANARY", 0.7), event("b", "REGISTERED"))
    with pytest.raises(ConfigurationError, match=said):
        change(states, "b", stage, share)
    change(states, "a", "CANARY", 0.9)  # its own share does not count against it
    assert states.stage("a") == "CANARY"


def test_the_shares_of_all_canaries_count_together() -> None:
    states = folded(
        event("a", "CANARY", 0.4), event("b", "CANARY", 0.4), event("c", "REGISTERED"),
        event("d", "ROLLED_BACK"),
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"have 0\.8 .*at most 0\.2"):
        change(states, "c", "CANARY", 0.25)
    change(states, "c", "CANARY", 0.2)
    assert [each["canary_share"] for each in states.at("CANARY")] == [0.4, 0.4, 0.2]


def of_unknown_stage(model_id: str) -> bytes:
    """As a writer with a seventh stage in its enumeration would write it."""
    data = avro.encode("ModelEvent", event(model_id, "ROLLED_BACK"))
    at = avro.HEADER_SIZE + 1 + len(model_id)
    assert data[at] == 2 * STAGES.index("ROLLED_BACK")
    return data[:at] + bytes([2 * len(STAGES)]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (b"a", of_unknown_stage("a"), "damaged"),
        (b"a", b"\xc3\x01newschem" + b"x" * 20, "unknown schema"),
        (b"a", b"noise", "not an Avro"),
        (b"a", avro.encode("ModelEvent", event("b", "CHAMPION")), "it is about 'b'"),
        (None, avro.encode("ModelEvent", event("a", "RETIRED")), "it is about 'a'"),
    ],
    ids=["stage", "schema", "noise", "key", "no key"],
)
def test_an_event_that_cannot_be_read_is_named_and_changes_nothing(
    key: bytes | None, value: bytes, said: str
) -> None:
    states = folded(event("a", "SHADOW"))
    before = served(states)
    with pytest.raises(BadMessage, match=said) as raised:
        states.read(key, value)
    assert "ignored" in str(raised.value)
    assert served(states) == before
    found, ignored = ModelStates.of(
        [(b"a", avro.encode("ModelEvent", event("a", "SHADOW"))), (key, value)]
    )
    assert served(found) == before
    assert len(ignored) == 1


def test_a_tombstone_removes_a_model() -> None:
    states = folded(event("a", "CHAMPION"))
    assert states.read(b"a", None) is None
    assert len(states) == 0
