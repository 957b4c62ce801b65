"""Value at risk and the order of cases."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.review.cases import DOUBLING_MS, MIN_VALUE, Case, urgency, value_at_risk
from schemas.currency import CurrencyTable

NOW = 1_700_000_000_000
values = st.floats(0, 1e12)
times = st.integers(NOW, NOW + 30 * 24 * DOUBLING_MS)


def decision(**fields: Any) -> dict[str, Any]:
    return {"score": 0.9, "amount": 10_000, "currency": "EUR"} | fields


def test_value_at_risk_is_score_times_amount_in_the_base_currency() -> None:
    currencies = CurrencyTable("EUR", {"JPY": 0.006})
    assert value_at_risk(decision(), currencies) == pytest.approx(9_000)
    assert value_at_risk(decision(currency="JPY"), currencies) == pytest.approx(5_400)
    assert value_at_risk(decision(score=0.0), currencies) == 0


def test_without_a_score_half_the_amount_is_at_risk_and_an_unknown_currency_counts() -> None:
    assert value_at_risk(decision(score=None), CurrencyTable()) == 5_000
    assert value_at_risk(decision(currency="CHF"), CurrencyTable()) == pytest.approx(9_000)


@given(values, values, times)
def test_of_two_cases_of_one_age_the_more_valuable_comes_first(
    one: float, other: float, opened: int
) -> None:
    if max(one, MIN_VALUE) > max(other, MIN_VALUE) * (1 + 1e-6):
        assert urgency(one, opened) > urgency(other, opened)


@given(values, times)
def test_an_hour_of_waiting_counts_as_twice_the_value(value: float, opened: int) -> None:
    later = urgency(max(value, MIN_VALUE) * 2, opened + DOUBLING_MS)
    assert urgency(value, opened) == pytest.approx(later, abs=1e-6)


@given(values, values, times)
def test_nothing_waits_for_ever(small: float, large: float, opened: int) -> None:
    """A case comes before all that are opened later than the doublings between their values."""
    doublings = math.log2(max(large, MIN_VALUE) / max(small, MIN_VALUE))
    later = opened + math.ceil((max(doublings, 0) + 0.01) * DOUBLING_MS)
    assert urgency(small, opened) > urgency(large, later)


def case(**fields: Any) -> Case:
    given: dict[str, Any] = {
        "case_id": 1, "transaction_id": "t", "card_id": "c", "merchant_id": "m", "event_time": 0,
        "opened_at": 0, "amount": 1, "currency": "EUR", "value_at_risk": 1.0, "urgency": 0.0,
    }  # fmt: skip
    absent = dict.fromkeys(set(Case.__slots__) - set(given))
    return Case(**{**absent, **given, **fields})


def test_the_grown_value_doubles_each_hour() -> None:
    waiting = case(urgency=urgency(20_000, NOW))
    assert waiting.grown_value(NOW) == pytest.approx(20_000)
    assert waiting.grown_value(NOW + 3 * DOUBLING_MS) == pytest.approx(160_000)
    assert math.isfinite(waiting.grown_value(NOW * 1000))


def test_a_claim_holds_until_it_ends_or_the_verdict() -> None:
    assert case().holder(5) is None
    assert case(claimed_by="ann", claimed_until=6).holder(5) == "ann"
    assert case(claimed_by="ann", claimed_until=5).holder(5) is None
    assert case(claimed_by="ann", claimed_until=6, verdict="FRAUD", decided_at=4).holder(5) is None


def test_a_verdict_can_be_taken_back_until_its_label_is_taken() -> None:
    decided = {"verdict": "FRAUD", "decided_at": 100}
    assert case().undo_until(60) == 0
    assert case(**decided).undo_until(60) == 160
    assert case(**decided, label_taken_at=161).undo_until(60) == 0
