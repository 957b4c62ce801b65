"""The reference itself, against examples worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from schemas.features import CATALOGUE, NAMES
from tests.support.reference.catalogue import Flags, Reference
from tests.support.reference.statistics import DAY, HOUR, MINUTE
from tests.support.reference.streams import START, stream

WEEK = 7 * DAY


def tx(name: str, time: int, amount: int = 1000, **fields: Any) -> dict[str, Any]:
    return {
        "transaction_id": name,
        "event_time": START + time,
        "card_id": "c",
        "merchant_id": "m",
        "amount": amount,
        "currency": "EUR",
    } | fields


def last(
    events: list[dict[str, Any]], reference: Reference | None = None
) -> tuple[dict[str, float], Flags]:
    """The named features and flags of the last transaction."""
    reference = reference or Reference(WEEK)
    vectors = [reference.transaction(event) for event in events]
    values, flags = vectors[-1]
    return dict(zip(NAMES, values, strict=True)), flags


def test_a_first_transaction_without_options() -> None:
    got, flags = last([tx("1", 5 * HOUR, 1234)])  # 2018-05-01 was a Tuesday
    assert flags == {"duplicate": False, "late": False}
    expected = {
        "amount": 12.34, "amount_is_round": 0, "hour_of_day": 5, "day_of_week": 1, "is_weekend": 0,
        "is_night": 1, "channel_code": 4, "card_tx_count_5m": 1, "card_tx_count_30d": 1,
        "card_amount_sum_30d": 12.34, "card_amount_mean_24h": 12.34, "card_amount_max_24h": 12.34,
        "card_velocity_ratio_24h_30d": 30, "card_spend_ratio_24h_30d": 30, "card_age_days": 0,
        "card_distinct_merchants_1h": 1, "card_distinct_mccs_24h": 0, "card_merchant_is_new": 1,
        "merchant_tx_count_1h": 1, "merchant_fraud_rate_30d": 0, "merchant_risk_score": 0.005,
        "merchant_age_days": 0, "card_small_tx_count_1h": 0,
    }  # fmt: skip
    assert {name: got[name] for name in expected} == expected
    undefined = {name for name, value in got.items() if math.isnan(value)}
    assert {
        "mcc_code", "ip_country_mismatch", "merchant_country_mismatch", "card_amount_std_30d",
        "amount_deviation_30d", "card_amount_ratio_30d", "card_amount_rank_30d",
        "card_seconds_since_last", "device_fingerprint_new", "card_country_is_new",
        "card_mcc_is_new", "card_km_from_last", "card_speed_kmh", "card_hour_deviation",
        "merchant_amount_deviation_30d",
        *(each.name for each in CATALOGUE if each.entity in ("device", "ip")),
    } == undefined  # fmt: skip


def test_a_window_excludes_its_far_edge() -> None:
    got, _ = last([tx("1", 0), tx("2", 1), tx("3", HOUR)])
    assert got["transaction_velocity_1h"] == 2
    assert got["card_tx_count_24h"] == 3


def test_amounts_against_prior() -> None:
    got, _ = last([tx("1", 0, 100), tx("2", HOUR, 200), tx("3", DAY + HOUR, 300)])
    assert got["card_amount_std_30d"] == pytest.approx(math.sqrt(0.5))
    assert got["amount_deviation_30d"] == pytest.approx(1.5 / math.sqrt(0.5))
    assert got["card_amount_ratio_30d"] == 2
    assert got["card_amount_rank_30d"] == 1
    assert got["card_amount_mean_30d"] == 2
    assert got["card_amount_mean_24h"] == 3
    assert got["card_velocity_ratio_24h_30d"] == 10
    assert got["card_spend_ratio_24h_30d"] == 15
    assert got["card_small_tx_count_1h"] == 1
    assert got["card_seconds_since_last"] == 86_400


def test_equal_prior_amounts_have_no_deviation() -> None:
    got, _ = last([tx("1", 0), tx("2", 1), tx("3", 2, 5)])
    assert got["card_amount_std_30d"] == 0
    assert math.isnan(got["amount_deviation_30d"])


def test_out_of_order_counts_where_it_belongs() -> None:
    got, flags = last([tx("1", 0), tx("2", 2 * HOUR), tx("3", HOUR)])
    assert got["card_tx_count_24h"] == 2
    assert got["card_seconds_since_last"] == 3600
    assert not flags["late"]
    got, _ = last([tx("1", 0), tx("2", -HOUR), tx("3", HOUR)])
    assert got["card_age_days"] == pytest.approx(2 / 24)


def test_late_leaves_no_trace() -> None:
    reference = Reference(WEEK)
    _, flags = last([tx("1", 0), tx("2", -30 * DAY)], reference)
    assert flags["late"]
    got, flags = last([tx("2", 1)], reference)
    assert got["card_tx_count_30d"] == 2
    assert got["merchant_tx_count_30d"] == 2
    assert got["card_age_days"] == pytest.approx(1 / DAY)
    assert flags == {"duplicate": False, "late": False}


def test_a_duplicate_stands_in_for_its_original() -> None:
    reference = Reference(WEEK)
    events = [tx("1", 0, 100), tx("2", MINUTE, 300), tx("2", 2 * MINUTE, 500)]
    got, flags = last(events, reference)
    assert flags == {"duplicate": True, "late": False}
    assert got["card_tx_count_5m"] == 2
    assert got["card_amount_sum_1h"] == 6
    assert got["merchant_tx_count_1h"] == 2
    assert got["card_seconds_since_last"] == 120
    got, _ = last([tx("3", 3 * MINUTE, 0)], reference)
    assert got["card_tx_count_5m"] == 3
    assert got["card_amount_sum_1h"] == 4


def test_frauds_count_once_they_are_a_delay_old() -> None:
    reference = Reference(WEEK)
    last([tx("1", 0, device_id="d", ip="203.0.113.7"), tx("2", HOUR)], reference)
    reference.label("c", "1", True)
    got, _ = last([tx("3", WEEK - 1)], reference)
    assert got["merchant_fraud_rate_30d"] == 0
    got, _ = last([tx("4", WEEK, device_id="d", ip="203.0.113.7")], reference)
    assert got["merchant_fraud_rate_1d"] == 1
    assert got["merchant_risk_score"] == pytest.approx(1.1 / 21)
    assert got["device_fraud_count_30d"] == 1
    assert got["ip_fraud_count_30d"] == 1
    got, _ = last([tx("5", WEEK + HOUR)], reference)
    assert got["merchant_fraud_rate_1d"] == 0.5
    got, _ = last([tx("6", WEEK + DAY)], reference)
    assert got["merchant_fraud_rate_1d"] == 0
    assert got["merchant_fraud_rate_7d"] == 0.5
    reference.label("c", "1", False)
    got, _ = last([tx("7", WEEK + DAY)], reference)
    assert got["merchant_fraud_rate_7d"] == 0


def test_a_label_waits_for_its_transaction() -> None:
    reference = Reference(WEEK)
    reference.label("c", "1", True)
    reference.label("c", "2", True)
    reference.label("c", "2", False)
    got, _ = last([tx("1", 0), tx("2", 0), tx("3", WEEK)], reference)
    assert got["merchant_fraud_rate_7d"] == 0.5


def test_what_is_older_than_retention_and_delay_is_dropped() -> None:
    reference = Reference(WEEK)
    last([tx("1", 0), tx("2", 37 * DAY)], reference)
    assert [y.id for y in reference.cards["c"].events] == ["2"]
    got, _ = last([tx("3", 37 * DAY)], reference)
    assert got["merchant_age_days"] == 37
    last([tx("4", 1, card_id="other"), tx("5", 0, card_id="third")], reference)
    assert [y.id for y in reference.merchants["m"].events] == ["2", "3", "4"]


def test_distinct_and_new_ignore_what_is_missing() -> None:
    fields: dict[str, Any] = {
        "mcc": 5411,
        "device_id": "d",
        "ip_country": "DE",
        "card_country": "FR",
    }
    got, _ = last(
        [
            tx("1", 0, ip="2001:db8::1", **fields),
            tx("2", HOUR, merchant_id="n", merchant_country="FR", ip_country="DE"),
            tx("3", HOUR, ip="2001:db8::ffff", merchant_country="DE", **fields),
        ]
    )
    assert got["card_distinct_merchants_24h"] == 2
    assert got["card_distinct_merchants_1h"] == 2
    assert got["card_distinct_mccs_24h"] == 1
    assert got["card_distinct_devices_30d"] == 1
    assert got["card_distinct_countries_24h"] == 2
    assert got["card_distinct_ips_24h"] == 1
    assert got["ip_tx_count_24h"] == 2
    assert got["ip_tx_count_1h"] == 1
    assert got["card_merchant_is_new"] == 0
    assert got["device_fingerprint_new"] == 0
    assert got["card_country_is_new"] == 0
    assert got["card_mcc_is_new"] == 0
    assert got["ip_country_mismatch"] == 1
    assert got["merchant_country_mismatch"] == 1


def test_movement_and_hours() -> None:
    events = [
        tx("1", 23 * HOUR, latitude=0.0, longitude=-45.0),
        tx("2", 24 * HOUR),
        tx("3", 25 * HOUR),
        tx("4", 27 * HOUR, latitude=0.0, longitude=45.0),
    ]
    got, _ = last(events)
    quarter = math.pi / 2 * 6371.0088
    assert got["card_km_from_last"] == pytest.approx(quarter)
    assert got["card_speed_kmh"] == pytest.approx(quarter / 4)
    assert got["card_hour_deviation"] == pytest.approx(3)
    same_time = [*events[:1], tx("5", 23 * HOUR, latitude=0.0, longitude=45.0)]
    assert last(same_time)[0]["card_speed_kmh"] == pytest.approx(quarter * 60)
    opposite = [tx("1", 0), tx("2", 12 * HOUR), tx("3", 24 * HOUR), tx("4", 36 * HOUR)]
    assert math.isnan(last([*opposite, tx("5", 36 * HOUR)])[0]["card_hour_deviation"])


def test_shared_devices_count_cards() -> None:
    got, _ = last(
        [
            tx("1", 0, card_id="a", device_id="d"),
            tx("2", 2 * HOUR, card_id="b", device_id="d"),
            tx("3", DAY, card_id="b", device_id="d"),
        ]
    )
    assert got["device_tx_count_24h"] == 2
    assert got["device_distinct_cards_24h"] == 1
    assert got["device_distinct_cards_30d"] == 2
    assert got["device_age_days"] == 1


def test_seeded_streams_repeat_and_hold_every_kind() -> None:
    events = stream(1, 600)
    assert events == stream(1, 600)
    reference = Reference(WEEK)
    flags = [reference.transaction(e["transaction"])[1] for e in events if "transaction" in e]
    assert any(f["duplicate"] for f in flags)
    assert any(f["late"] for f in flags)
    assert any("label" in e for e in events)
