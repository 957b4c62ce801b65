"""Rules are evaluated on a batch, and whatever is outside the closed list is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from schemas.errors import ConfigurationError
from scorer.policy.document import compile_policy
from scorer.policy.expressions import Columns, compile_rule

COLUMNS: Columns = {
    "amount": np.array([1.0, 50.0, np.nan, 900.0]),
    "score": np.array([0.1, 0.9, 0.5, 0.2]),
    "country": np.array(["DE", "FR", "", "US"]),
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("amount > 10", [False, True, False, True]),
        ("amount != 50", [True, False, False, True]),
        ("50 != amount", [True, False, False, True]),
        ("amount > 10 and not score > 0.5", [False, False, False, True]),
        ("country in ['DE', 'US'] or score >= 0.9", [True, True, False, True]),
        ("amount not in [1, 50]", [False, False, False, True]),
        ("amount / 0 > 1", [True, True, False, True]),
        ("1 < 2", [True, True, True, True]),
        ("1 < 2 and amount > 10", [False, True, False, True]),
    ],
)
def test_hits(expression: str, expected: list[bool]) -> None:
    assert (
        compile_rule("r", "REVIEW", expression, "", COLUMNS).hits(COLUMNS, 4).tolist() == expected
    )


@pytest.mark.parametrize(
    "expression",
    [
        "amount >", "amount", "unknown > 1", "amount ** 9 > 1", "__import__('os') == 1",
        "amount.real > 1", "[x for x in amount] > 1", "amount in country", "amount in [1, 'a']",
        "1 < amount < 3", "(lambda: 1)() > 0", "True == amount", "(" * 999, "-" * 990 + "1 > 0",
    ],
)  # fmt: skip
def test_bad_rules_are_refused(expression: str) -> None:
    with pytest.raises(ConfigurationError, match="rule 'r'"):
        compile_rule("r", "BLOCK", expression, "", COLUMNS)


@pytest.mark.parametrize(
    "when", ["currency > 5", "merchant_id + 1 > 2", "-channel > 1", f"amount > 1{'0' * 400}"]
)
@pytest.mark.parametrize("part", ["rules", "segments"])
def test_what_would_fail_in_service_is_refused_when_compiled(when: str, part: str) -> None:
    rule = {"id": "r", "action": "BLOCK", "when": when, "text": "text"}
    segment = {"name": "r", "when": when, "block": 1, "review": 1}
    parts = {"version": "v", part: [rule if part == "rules" else segment]}
    with pytest.raises(ConfigurationError, match="'r'"):
        compile_policy(json.dumps(parts))


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"thresholds": {"block": 0.5, "review": 0.9}}, "above block"),
        ({"thresholds": {"block": 2, "review": 0.9}}, "thresholds.block"),
        ({"fallback": "IGNORE"}, "fallback"),
        ({"rule": []}, "rule"),
        ({"lists": [{"id": "l", "action": "BLOCK", "field": "amount", "values": [], "text": "t"}]},
         "lists.0.field"),
        ({"rules": [{"id": "r", "action": "BLOCK", "when": "amount > 1", "text": "t"}] * 2},
         "twice"),
    ],
)  # fmt: skip
def test_a_wrong_document_is_refused_by_name(parts: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        compile_policy(json.dumps({"version": "v", **parts}))
