"""A transaction against the norm of its card."""

from __future__ import annotations

from typing import Any

import numpy as np

from dashboard.transactions import view
from dashboard.transactions.norm import FeatureLine, lines
from dashboard.web.redaction import Redaction
from database.decisions.transaction_evidence import Past
from schemas.features import NAMES, VECTOR_SIZE

AMOUNT, NEW = NAMES.index("amount"), NAMES.index("card_merchant_is_new")
CHANNEL, HOUR = NAMES.index("channel_code"), NAMES.index("hour_of_day")


def row(**values: float) -> np.typing.NDArray[np.float32]:
    vector = np.ones(VECTOR_SIZE, np.float32)
    for name, value in values.items():
        vector[NAMES.index(name)] = value
    return vector


def earlier(count: int = 20) -> np.typing.NDArray[np.float32]:
    draw = np.random.default_rng(1)
    rows = np.ones((count, VECTOR_SIZE), np.float32)
    rows[:, AMOUNT] = draw.normal(50, 5, count)
    rows[:, NEW] = 0
    rows[:, HOUR] = 12
    return rows


def named(found: list[FeatureLine], name: str) -> FeatureLine:
    return next(line for line in found if line.name == name)


def test_what_lies_far_from_the_cards_mean_is_unusual() -> None:
    found = lines(row(amount=400, card_merchant_is_new=0, hour_of_day=3), earlier(), None)
    assert named(found, "amount").unusual
    assert named(found, "amount").text == "amount 400.00"
    assert named(found, "amount").usual.startswith(("49", "50", "51"))
    assert [line.name for line in found if line.unusual] == ["amount"]
    near = lines(row(amount=55, card_merchant_is_new=0), earlier(), None)
    assert not named(near, "amount").unusual


def test_a_flag_or_code_that_never_was_is_unusual_and_nan_is_not() -> None:
    found = lines(row(card_merchant_is_new=1, channel_code=2, amount=np.nan), earlier(), None)
    assert named(found, "card_merchant_is_new").unusual
    assert named(found, "card_merchant_is_new").usual == "yes in 0 of 20"
    assert named(found, "channel_code").usual == "ECOM in 20 of 20"
    assert named(found, "channel_code").unusual
    assert not named(found, "amount").unusual


def test_the_calendar_and_ages_are_never_unusual_and_the_hour_of_the_card_is() -> None:
    usual = earlier()
    for name in ("is_night", "is_weekend", "card_age_days"):
        usual[:, NAMES.index(name)] = 0
    found = lines(
        row(
            amount=50,
            card_merchant_is_new=0,
            day_of_week=6,
            card_age_days=90,
            card_hour_deviation=9,
        ),
        usual,
        None,
    )
    assert [line.name for line in found if line.unusual] == ["card_hour_deviation"]


def test_what_is_usual_is_told_in_the_unit_that_a_person_uses() -> None:
    usual = earlier(20)
    usual[:, NAMES.index("card_seconds_since_last")] = [3_600, 7_200] * 10
    usual[:, NAMES.index("card_age_days")] = [1, 3] * 10
    usual[:, NAMES.index("merchant_fraud_rate_7d")] = [0.01, 0.03] * 10
    usual[:, NAMES.index("mcc_code")] = 742
    found = lines(row(), usual, None)
    assert named(found, "card_seconds_since_last").usual == "1 h 30 min ± 30 min"
    assert named(found, "card_age_days").usual == "2 days ± 1 day"
    assert named(found, "merchant_fraud_rate_7d").usual == "2 ± 1%"
    assert named(found, "mcc_code").usual == "0742 in 20 of 20"
    assert named(found, "day_of_week").usual == ""


def test_a_card_with_few_transactions_has_no_norm() -> None:
    found = lines(row(amount=400), earlier(4), None)
    assert not any(line.unusual or line.usual for line in found)


def test_contributions_and_the_anomaly_score_go_with_their_features() -> None:
    added = np.arange(VECTOR_SIZE + 1, dtype=np.float64)
    found = lines(row(), earlier(), added, 0.7)
    assert len(found) == VECTOR_SIZE + 1
    assert found[AMOUNT].contribution == AMOUNT
    assert found[-1].contribution == VECTOR_SIZE
    assert "0.70" in found[-1].text


def test_bars_stand_around_the_middle_strongest_first() -> None:
    made = view.bars(
        [
            FeatureLine(str(number), "card", "", "", False, added)
            for number, added in enumerate((1.0, -2.0, 0.0, None))
        ]
    )
    assert [(bar.start, bar.width, bar.raises) for bar in made] == [
        (0.0, 50.0, False), (50.0, 25.0, True),
    ]  # fmt: skip


def decision(number: int, **changes: Any) -> Any:
    return {
        "transaction_id": f"t{number}", "card_id": "card-123456", "merchant_id": "m",
        "event_time": 1_000 * number, "amount": 100 * number, "currency": "EUR",
        "decision": "APPROVE", "received_at": 1_000 * number + 20,
        "computed_at": (1_000 * number + 24) * 1_000,
        "decided_at": (1_000 * number + 30) * 1_000 + 400,
    } | changes  # fmt: skip


def test_the_drawing_spans_time_and_amount() -> None:
    history = [Past(decision(number), None) for number in (3, 2, 1)]
    found = view.drawing(history, decision(2))
    assert found is not None
    assert [dot.x for dot in found.dots] == sorted(dot.x for dot in found.dots)
    assert [dot.this for dot in found.dots] == [False, True, False]
    assert found.max_amount == "3.00 EUR"
    assert view.drawing(history[:1], decision(3)) is None


def test_timings_tell_each_step() -> None:
    steps = view.timings(decision(1))
    assert [later for _, _, later in steps] == ["", "20 ms later", "4.0 ms later", "6.4 ms later"]


def test_personal_inputs_are_hidden_from_those_who_may_not_see_them() -> None:
    transaction: Any = {"ip": "192.0.2.1", "attributes": {"b": "2", "a": "1"}, "merchant_id": "m"}
    seen = dict(view.inputs(decision(1), transaction, Redaction(in_full=False)))
    assert seen == {
        "Card": "••••3456",
        "Merchant": "m",
        "IP address": "••••",
        "a": "••••",
        "b": "••••",
    }
    assert dict(view.inputs(decision(1), None, Redaction(in_full=True))) == {
        "Card": "card-123456", "Merchant": "m",
    }  # fmt: skip
