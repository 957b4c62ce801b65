"""From vectors to decisions: thresholds, precedence of rules and lists, roles, degraded answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.codec import avro
from schemas.codec.vectors import DecodedVectors, decode_feature_vectors
from schemas.features import CATALOGUE, NAMES
from scorer.decision.decide import Canary, Serving, decide
from scorer.decision.reasons import feature_reasons
from scorer.model.bundle import Model
from scorer.policy.document import Policy, compile_policy
from tests.support.scorer.stand_ins import LARGE, SMALL, small_model, vector

NOW_US = 1_700_000_001_000_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return small_model(tmp_path_factory.mktemp("bundles") / "model", "model")


def batch(*rows: dict[str, Any]) -> DecodedVectors:
    return decode_feature_vectors([vector((0, place), **row) for place, row in enumerate(rows)])


def policy(**parts: Any) -> Policy:
    return compile_policy(json.dumps({"version": "v1", **parts}))


def answers(serving: Serving, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    decided = decide(batch(*rows), serving, NOW_US)
    records = [avro.decode(message)[1] for message in decided.messages]
    assert [("APPROVE", "REVIEW", "BLOCK")[code] for code in decided.action] == [
        record["decision"] for record in records
    ]
    return records


def rule(name: str, action: str, when: str) -> dict[str, str]:
    return {"id": name, "action": action, "when": when, "text": f"{name} says so"}


def listed(name: str, action: str, field: str, *values: str) -> dict[str, Any]:
    return {"id": name, "action": action, "field": field, "values": values, "text": name}


def test_thresholds_are_the_bundles_unless_the_policy_has_its_own(model: Model) -> None:
    by_model = answers(Serving(champion=model), {"amount": SMALL}, {"amount": LARGE})
    assert [r["decision"] for r in by_model] == ["APPROVE", "BLOCK"]
    score = by_model[1]["score"]
    assert score > 0.95
    assert by_model[1]["decided_at"] == NOW_US
    strict = policy(thresholds={"block": score, "review": 0.0})
    own = answers(Serving(strict, model), {"amount": SMALL}, {"amount": LARGE})
    assert [r["decision"] for r in own] == ["REVIEW", "REVIEW"]  # above, not at, a threshold


def test_the_first_segment_that_fits_gives_the_thresholds(model: Model) -> None:
    segments = [
        {"name": "atm", "when": "channel == 'ATM'", "block": 1.0, "review": 1.0},
        {"name": "all", "when": "amount >= 0", "block": 0.0, "review": 0.0},
    ]
    found = answers(
        Serving(policy(segments=segments), model),
        {"amount": LARGE, "channel": "ATM"}, {"amount": SMALL, "channel": "POS"},
    )  # fmt: skip
    assert [r["decision"] for r in found] == ["APPROVE", "BLOCK"]


@pytest.mark.parametrize(
    ("rules", "lists", "expected"),
    [
        ([("a", "APPROVE")], [], "APPROVE"),
        ([("a", "APPROVE"), ("r", "REVIEW")], [], "REVIEW"),
        ([("r", "REVIEW")], [], "BLOCK"),
        ([("a", "APPROVE"), ("b", "BLOCK")], [], "BLOCK"),
        ([("b", "BLOCK")], [("allow", "APPROVE")], "APPROVE"),
        ([], [("allow", "APPROVE")], "APPROVE"),
        ([("a", "APPROVE")], [("block", "BLOCK"), ("allow", "APPROVE")], "BLOCK"),
    ],
)
def test_precedence_over_a_model_that_blocks(
    model: Model, rules: list[tuple[str, str]], lists: list[tuple[str, str]], expected: str
) -> None:
    parts = policy(
        rules=[rule(name, action, "amount > 0") for name, action in rules],
        lists=[listed(name, action, "card_id", "card-0") for name, action in lists],
    )
    (found,) = answers(Serving(parts, model), {"amount": LARGE, "card_id": "card-0"})
    assert found["decision"] == expected
    assert set(found["rule_hits"]) == {name for name, _ in rules + lists}


def test_lists_match_whole_values_of_any_field(model: Model) -> None:
    lists = [
        listed("merchants", "BLOCK", "merchant_id", "bad", "wörse"),
        listed("addresses", "BLOCK", "ip", "203.0.113.7"),
        listed("devices", "BLOCK", "device_id", "d1"),
    ]
    found = answers(
        Serving(policy(lists=lists), model),
        {"merchant_id": "bad"}, {"merchant_id": "badly"}, {"merchant_id": "wörse"},
        {"ip": "203.0.113.7"}, {"device_id": "d1"}, {"device_id": None},
    )  # fmt: skip
    assert [r["rule_hits"] for r in found] == [
        ["merchants"], [], ["merchants"], ["addresses"], ["devices"], [],
    ]  # fmt: skip


def test_without_a_model_the_fallback_and_the_rules_decide() -> None:
    rules = [rule("big", "BLOCK", "amount > 500 or score > 0")]
    found = answers(Serving(policy(rules=rules)), {"amount": SMALL}, {"amount": LARGE})
    assert [(r["decision"], r["degraded"]) for r in found] == [
        ("REVIEW", "no_model"),
        ("BLOCK", "no_model"),
    ]
    (approved,) = answers(Serving(policy(rules=rules, fallback="APPROVE")), {"amount": SMALL})
    assert (approved["decision"], approved["degraded"]) == ("APPROVE", "no_model")
    assert all(r["score"] is None and r["model_role"] == "NONE" for r in found)


def test_a_vector_of_another_catalogue_gets_the_policys_fallback(model: Model) -> None:
    foreign = {"amount": SMALL, "fingerprint": b"otherone"}
    found = answers(Serving(champion=model), foreign, {"amount": SMALL})
    assert [(r["decision"], r["degraded"]) for r in found] == [
        ("REVIEW", "unknown_fingerprint"),
        ("APPROVE", None),
    ]
    (blocked,) = answers(Serving(policy(fallback="BLOCK"), model), foreign)
    assert blocked["decision"] == "BLOCK"


def test_reasons_name_rules_first_and_then_what_raised_the_score(model: Model) -> None:
    approved, blocked = answers(
        Serving(policy(rules=[rule("big", "REVIEW", "amount > 500")]), model),
        {"amount": SMALL}, {"amount": LARGE},
    )  # fmt: skip
    assert approved["reasons"] == []
    assert blocked["reasons"][0] == {
        "code": "big",
        "text": "big says so",
        "contribution": None,
    }
    assert blocked["reasons"][1]["code"] == "amount"
    added = [reason["contribution"] for reason in blocked["reasons"][1:]]
    assert added == sorted(added, reverse=True)
    assert all(value > 0 for value in added)


def test_canary_cards_are_the_same_in_every_batch_and_shadows_ride_along(
    model: Model, tmp_path: Path
) -> None:
    canary = small_model(tmp_path / "canary", "canary", edge=1_400.0)
    serving = Serving(champion=model, canaries=(Canary(canary, 0.5),), shadows=(canary,))
    rows = [{"amount": LARGE, "card_id": f"card-{n}"} for n in range(200)]
    together = answers(serving, *rows)
    alone = [answers(serving, row)[0] for row in rows[:20]]
    for first, second in zip(together[:20], alone, strict=True):
        assert (first["model_id"], first["score"]) == (second["model_id"], second["score"])
    by_canary = [r for r in together if r["model_role"] == "CANARY"]
    assert 60 < len(by_canary) < 140
    assert {r["decision"] for r in by_canary} == {"APPROVE"}
    assert {r["decision"] for r in together if r["model_role"] == "CHAMPION"} == {"BLOCK"}
    for record in together:
        assert [shadow["model_id"] for shadow in record["shadows"]] == ["canary"]


def test_two_canaries_have_different_cards_and_the_champion_the_rest(model: Model) -> None:
    first, second = (replace(model, model_id=name) for name in ("first", "second"))
    serving = Serving(champion=model, canaries=(Canary(first, 0.3), Canary(second, 0.3)))
    found = answers(serving, *({"card_id": f"card-{n}"} for n in range(600)))
    shares = {
        name: sum(each["model_id"] == name for each in found) / 600
        for name in ("first", "second", "model")
    }
    assert shares == {
        "first": pytest.approx(0.3, abs=0.08),
        "second": pytest.approx(0.3, abs=0.08),
        "model": pytest.approx(0.4, abs=0.08),
    }
    roles = {(each["model_id"], each["model_role"]) for each in found}
    assert roles == {("first", "CANARY"), ("second", "CANARY"), ("model", "CHAMPION")}


def test_each_row_has_the_reasons_of_the_model_that_judged_it(model: Model, tmp_path: Path) -> None:
    canary = small_model(tmp_path / "canary", "canary", seed=7, edge=300.0)
    rows = [{"amount": LARGE, "card_id": f"card-{n}"} for n in range(40)]
    together = answers(Serving(champion=model, canaries=(Canary(canary, 0.5),)), *rows)
    assert {each["model_id"] for each in together} == {"model", "canary"}
    alone = {each.model_id: answers(Serving(champion=each), *rows) for each in (model, canary)}
    assert alone["model"][0]["reasons"] != alone["canary"][0]["reasons"]
    for place, found in enumerate(together):
        assert found["reasons"] == alone[found["model_id"]][place]["reasons"]


def test_the_four_features_that_raise_the_score_most_are_named() -> None:
    added = np.zeros(len(CATALOGUE) + 1)
    added[[3, 5, 11, 20, 40, 50]] = (0.1, 0.6, -2.0, 0.3, 0.5, 0.2)
    inputs = np.ones(len(added), np.float32)
    found = feature_reasons(inputs, added)
    assert [(each["code"], each["contribution"]) for each in found] == [
        (NAMES[5], 0.6), (NAMES[40], 0.5), (NAMES[20], 0.3), (NAMES[50], 0.2),
    ]  # fmt: skip


def test_each_shadow_scores_as_it_would_as_the_champion(model: Model, tmp_path: Path) -> None:
    shadows = tuple(
        small_model(tmp_path / name, name, seed=seed) for seed, name in ((5, "b"), (6, "c"))
    )
    rows: list[dict[str, Any]] = [{"amount": each} for each in (SMALL, LARGE, 499.0, 501.0)]
    rows.insert(2, {"amount": SMALL, "fingerprint": b"otherone"})
    watched = answers(Serving(champion=model, shadows=shadows), *rows)
    assert watched[2]["shadows"] == []
    plain = answers(Serving(champion=model), *rows)
    assert [{**record, "shadows": []} for record in watched] == plain
    for place, shadow in enumerate(shadows):
        alone = answers(Serving(champion=shadow), *rows)
        for row in (0, 1, 3, 4):
            assert watched[row]["shadows"][place] == {
                "model_id": shadow.model_id,
                "score": alone[row]["score"],
            }


def test_an_answer_does_not_depend_on_the_batch(model: Model) -> None:
    serving = Serving(policy(rules=[rule("big", "REVIEW", "card_tx_count_24h > 9")]), model)
    draw = np.random.default_rng(3)
    rows = [
        {"amount": float(a), "count_24h": float(c)}
        for a, c in zip(draw.uniform(0, 1_500, 150), draw.integers(1, 20, 150), strict=True)
    ]
    whole = decide(batch(*rows), serving, NOW_US).messages
    each = [
        decide(decode_feature_vectors([vector((0, place), **row)]), serving, NOW_US).messages[0]
        for place, row in enumerate(rows)
    ]
    assert whole == each
