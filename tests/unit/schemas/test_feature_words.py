"""What a feature says to a person: every feature of the catalogue, and the borders of its words."""

from __future__ import annotations

import re

import numpy as np
import pytest

from schemas.features import CATALOGUE, NAMES, VECTOR_SIZE, Feature
from schemas.words.feature_words import DESCRIPTIONS, feature_text

TEXTS = (
    ("amount", 1234.5, "amount 1,234.50"),
    ("amount_is_round", 1.0, "a round amount"),
    ("amount_is_round", 0.0, "not a round amount"),
    ("hour_of_day", 3.0, "in the hour from 03:00 UTC"),
    ("day_of_week", 6.0, "on a Sunday"),
    ("is_weekend", 1.0, "at the weekend"),
    ("is_weekend", 0.0, "during the week"),
    ("is_night", 1.0, "at night, before 07:00 UTC"),
    ("is_night", 0.0, "by day, from 07:00 UTC"),
    ("channel_code", 1.0, "channel ECOM"),
    ("mcc_code", 5411.0, "merchant category 5411"),
    ("ip_country_mismatch", 1.0, "IP address in another country than the card"),
    ("ip_country_mismatch", 0.0, "IP address in the card's country"),
    ("merchant_country_mismatch", 1.0, "merchant in another country than the card"),
    ("merchant_country_mismatch", 0.0, "merchant in the card's country"),
    ("card_tx_count_5m", 12.0, "12 transactions with the card in 5 minutes"),
    ("transaction_velocity_1h", 12.0, "12 transactions with the card in 1 hour"),
    ("card_tx_count_24h", 12.0, "12 transactions with the card in 24 hours"),
    ("card_tx_count_7d", 12.0, "12 transactions with the card in 7 days"),
    ("card_tx_count_30d", 12.0, "12 transactions with the card in 30 days"),
    ("card_amount_sum_1h", 1234.5, "1,234.50 spent with the card in 1 hour"),
    ("card_amount_sum_24h", 1234.5, "1,234.50 spent with the card in 24 hours"),
    ("card_amount_sum_7d", 1234.5, "1,234.50 spent with the card in 7 days"),
    ("card_amount_sum_30d", 1234.5, "1,234.50 spent with the card in 30 days"),
    ("card_amount_mean_24h", 1234.5, "mean amount of 1,234.50 with the card in 24 hours"),
    ("card_amount_mean_7d", 1234.5, "mean amount of 1,234.50 with the card in 7 days"),
    ("card_amount_mean_30d", 1234.5, "mean amount of 1,234.50 with the card in 30 days"),
    ("card_amount_max_24h", 1234.5, "largest amount of 1,234.50 with the card in 24 hours"),
    ("card_amount_max_30d", 1234.5, "largest amount of 1,234.50 with the card in 30 days"),
    (
        "card_amount_std_30d",
        1234.5,
        "standard deviation of 1,234.50 among the card's earlier amounts in 30 days",
    ),
    (
        "amount_deviation_30d",
        4.2,
        "amount 4.2 standard deviations above the card's earlier mean over 30 days",
    ),
    ("card_amount_ratio_30d", 3.2, "amount 3.2 times the card's earlier mean over 30 days"),
    (
        "card_amount_rank_30d",
        0.95,
        "amount higher than 95.0% of the card's earlier amounts in 30 days",
    ),
    (
        "card_velocity_ratio_24h_30d",
        3.2,
        "transactions in 24 hours: 3.2 times the card's daily average over 30 days",
    ),
    (
        "card_spend_ratio_24h_30d",
        3.2,
        "spending in 24 hours: 3.2 times the card's daily average over 30 days",
    ),
    ("card_seconds_since_last", 1680.0, "28 min since the card's previous transaction"),
    ("card_age_days", 0.01945, "28 min since the card's first transaction"),
    ("card_distinct_merchants_1h", 12.0, "12 merchants paid with the card in 1 hour"),
    ("card_distinct_merchants_24h", 12.0, "12 merchants paid with the card in 24 hours"),
    ("card_distinct_merchants_30d", 12.0, "12 merchants paid with the card in 30 days"),
    ("card_distinct_mccs_24h", 12.0, "12 merchant categories used with the card in 24 hours"),
    ("card_distinct_devices_30d", 12.0, "12 devices used with the card in 30 days"),
    ("card_distinct_countries_24h", 12.0, "12 countries seen with the card in 24 hours"),
    ("card_distinct_countries_30d", 12.0, "12 countries seen with the card in 30 days"),
    ("card_distinct_ips_24h", 12.0, "12 IP addresses used with the card in 24 hours"),
    ("card_small_tx_count_1h", 12.0, "12 transactions below 5.00 with the card in 1 hour"),
    ("card_merchant_is_new", 1.0, "the card's first time at this merchant in 30 days"),
    ("card_merchant_is_new", 0.0, "not the card's first time at this merchant in 30 days"),
    ("device_fingerprint_new", 1.0, "the card's first time on this device in 30 days"),
    ("device_fingerprint_new", 0.0, "not the card's first time on this device in 30 days"),
    ("card_country_is_new", 1.0, "the card's first time in this country in 30 days"),
    ("card_country_is_new", 0.0, "not the card's first time in this country in 30 days"),
    ("card_mcc_is_new", 1.0, "the card's first time in this merchant category in 30 days"),
    ("card_mcc_is_new", 0.0, "not the card's first time in this merchant category in 30 days"),
    ("card_km_from_last", 431.27, "431 km from the card's previous position"),
    ("card_speed_kmh", 912.4, "travel speed of 912 km/h from the card's previous position"),
    ("card_hour_deviation", 6.5, "6 h 30 min from the card's usual time of day over 30 days"),
    ("merchant_tx_count_1h", 12.0, "12 transactions at the merchant in 1 hour"),
    ("merchant_tx_count_24h", 12.0, "12 transactions at the merchant in 24 hours"),
    ("merchant_tx_count_7d", 12.0, "12 transactions at the merchant in 7 days"),
    ("merchant_tx_count_30d", 12.0, "12 transactions at the merchant in 30 days"),
    ("merchant_amount_mean_30d", 1234.5, "mean amount of 1,234.50 at the merchant in 30 days"),
    (
        "merchant_amount_deviation_30d",
        4.2,
        "amount 4.2 standard deviations above the merchant's earlier mean over 30 days",
    ),
    (
        "merchant_fraud_rate_1d",
        0.025,
        "fraud rate of 2.5% at the merchant over 1 day, before the label delay",
    ),
    (
        "merchant_fraud_rate_7d",
        0.025,
        "fraud rate of 2.5% at the merchant over 7 days, before the label delay",
    ),
    (
        "merchant_fraud_rate_30d",
        0.025,
        "fraud rate of 2.5% at the merchant over 30 days, before the label delay",
    ),
    (
        "merchant_risk_score",
        0.025,
        "smoothed fraud rate of 2.5% at the merchant over 30 days, before the label delay",
    ),
    ("merchant_age_days", 0.01945, "28 min since the merchant's first transaction"),
    ("device_tx_count_1h", 12.0, "12 transactions from the device in 1 hour"),
    ("device_tx_count_24h", 12.0, "12 transactions from the device in 24 hours"),
    ("device_distinct_cards_24h", 12.0, "12 cards used on the device in 24 hours"),
    ("device_distinct_cards_30d", 12.0, "12 cards used on the device in 30 days"),
    (
        "device_fraud_count_30d",
        12.0,
        "12 frauds from the device in 30 days, before the label delay",
    ),
    ("device_age_days", 0.01945, "28 min since the device's first transaction"),
    ("ip_tx_count_1h", 12.0, "12 transactions from the IP address in 1 hour"),
    ("ip_tx_count_24h", 12.0, "12 transactions from the IP address in 24 hours"),
    ("ip_distinct_cards_1h", 12.0, "12 cards used from the IP address in 1 hour"),
    ("ip_distinct_cards_24h", 12.0, "12 cards used from the IP address in 24 hours"),
    (
        "ip_fraud_count_30d",
        12.0,
        "12 frauds from the IP address in 30 days, before the label delay",
    ),
)


@pytest.mark.parametrize(("name", "value", "text"), TEXTS)
def test_a_value_is_told_as_a_phrase_in_the_unit_that_a_person_uses(
    name: str, value: float, text: str
) -> None:
    assert feature_text(NAMES.index(name), float(np.float32(value))) == text


def test_no_feature_of_the_catalogue_is_without_an_example() -> None:
    assert list(dict.fromkeys(name for name, _, _ in TEXTS)) == list(NAMES)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("transaction_velocity_1h", 1.0, "1 transaction with the card in 1 hour"),
        ("transaction_velocity_1h", 0.0, "0 transactions with the card in 1 hour"),
        ("merchant_tx_count_30d", 1_234_567.0, "1,234,567 transactions at the merchant in 30 days"),
        ("card_distinct_ips_24h", 1.0, "1 IP address used with the card in 24 hours"),
        ("card_distinct_countries_24h", 1.0, "1 country seen with the card in 24 hours"),
        ("card_distinct_mccs_24h", 1.0, "1 merchant category used with the card in 24 hours"),
        ("ip_distinct_cards_1h", 1.0, "1 card used from the IP address in 1 hour"),
        ("device_fraud_count_30d", 1.0,
         "1 fraud from the device in 30 days, before the label delay"),
        ("card_age_days", 0.0, "0 s since the card's first transaction"),
        ("card_age_days", 3.0, "3 days since the card's first transaction"),
        ("card_seconds_since_last", 86_400.0, "1 day since the card's previous transaction"),
        ("card_seconds_since_last", 5.0, "5 s since the card's previous transaction"),
        ("amount_deviation_30d", -1.0,
         "amount 1 standard deviation below the card's earlier mean over 30 days"),
        ("amount_deviation_30d", 0.0,
         "amount 0 standard deviations from the card's earlier mean over 30 days"),
        ("card_amount_ratio_30d", 1.0, "amount 1.0 times the card's earlier mean over 30 days"),
        ("card_amount_ratio_30d", 12_345.0,
         "amount 12,345 times the card's earlier mean over 30 days"),
        ("merchant_fraud_rate_1d", 0.00002,
         "fraud rate of less than 0.1% at the merchant over 1 day, before the label delay"),
        ("mcc_code", 742.0, "merchant category 0742"),
        ("hour_of_day", 23.0, "in the hour from 23:00 UTC"),
    ],
)  # fmt: skip
def test_borders_read_as_well(name: str, value: float, text: str) -> None:
    assert feature_text(NAMES.index(name), value) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("card_seconds_since_last", "time since the card's previous transaction: unknown"),
        ("ip_distinct_cards_1h", "cards used from the IP address in 1 hour: unknown"),
        ("device_fingerprint_new", "the card's first time on this device in 30 days: unknown"),
        ("mcc_code", "merchant category: unknown"),
    ],
)
def test_what_is_not_known_is_told_as_unknown(name: str, text: str) -> None:
    assert feature_text(NAMES.index(name), float("nan")) == text


def test_the_anomaly_score_comes_behind_the_catalogue() -> None:
    assert (
        feature_text(VECTOR_SIZE, 0.7)
        == "unusual behaviour of the card: 0.70 on a scale from 0 to 1"
    )


@pytest.mark.parametrize("value", [0.0, 1.0, 0.0123456, float("nan")])
def test_every_feature_says_something_else(value: float) -> None:
    assert (
        len({feature_text(column, value) for column in range(VECTOR_SIZE + 1)}) == VECTOR_SIZE + 1
    )
    assert len(set(DESCRIPTIONS.values())) == len(DESCRIPTIONS) == VECTOR_SIZE + 1


@pytest.mark.parametrize("value", [0.0, 1e-6, 0.01945, 0.9999, 1.0, 2.71828, 4_321.98765, 1e7])
def test_no_text_has_a_raw_float_a_placeholder_or_a_unit_twice(value: float) -> None:
    for column in range(VECTOR_SIZE + 1):
        text = feature_text(column, float(np.float32(value)))
        assert not re.search(r"\d\.\d{3}|\de[+-]?\d|[{}_≠]", text), text
        assert not re.search(r"\b(\w+) \1\b|%[^ ]|\bd\b", text), text
        assert not re.search(r"(?<!IP )\baddress", text), text


@pytest.mark.parametrize("feature", CATALOGUE, ids=NAMES)
def test_a_description_is_plain_english_without_abbreviations(feature: Feature) -> None:
    description = feature.description
    assert not re.search(r"\d (d|h|min)\b|[_≠<>=/]|(?<!IP )\baddress", description)
