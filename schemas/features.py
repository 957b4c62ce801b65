"""The feature catalogue as data: name, entity, statistic, window, description and unit.

The engine compiles it into positions of its scratch space; the fingerprint of the list goes into
every vector and every model, so that a scorer never reads a vector under another catalogue.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

Entity = Literal["transaction", "card", "merchant", "device", "ip"]

MINUTE: Final = 60_000
HOUR: Final = 3_600_000
DAY: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the vector.

    `statistic` names a quantity that the engine computes for `entity`; `window` (ms) is 0 for
    statistics without one, `baseline` (ms) is the longer window of a ratio.
    """

    name: str
    entity: Entity
    statistic: str
    window: int
    unit: str
    description: str
    baseline: int = 0


def _f(
    name: str, entity: Entity, statistic: str, window: int, unit: str, text: str, baseline: int = 0
) -> Feature:
    return Feature(name, entity, statistic, window, unit, text, baseline)


CATALOGUE: Final[tuple[Feature, ...]] = (
    _f("amount", "transaction", "amount", 0, "major units", "amount in the base currency"),
    _f("amount_is_round", "transaction", "is_round", 0, "0/1", "a whole number of major units"),
    _f("hour_of_day", "transaction", "hour", 0, "h UTC", "0-23"),
    _f("day_of_week", "transaction", "weekday", 0, "day", "Monday 0 … Sunday 6"),
    _f("is_weekend", "transaction", "is_weekend", 0, "0/1", "Saturday or Sunday"),
    _f("is_night", "transaction", "is_night", 0, "0/1", "hour_of_day <= 6"),
    _f("channel_code", "transaction", "channel", 0, "code", "POS 0, ECOM 1, ATM 2, MOTO 3, OTHER 4"),
    _f("mcc_code", "transaction", "mcc", 0, "code", "merchant category"),
    _f("ip_country_mismatch", "transaction", "ip_country_mismatch", 0, "0/1", "ip_country ≠ card_country"),
    _f("merchant_country_mismatch", "transaction", "merchant_country_mismatch", 0, "0/1", "merchant_country ≠ card_country"),
    _f("card_tx_count_5m", "card", "count", 5 * MINUTE, "transactions", "in 5 min"),
    _f("transaction_velocity_1h", "card", "count", HOUR, "transactions", "in 1 h"),
    _f("card_tx_count_24h", "card", "count", DAY, "transactions", "in 24 h"),
    _f("card_tx_count_7d", "card", "count", 7 * DAY, "transactions", "in 7 d"),
    _f("card_tx_count_30d", "card", "count", 30 * DAY, "transactions", "in 30 d"),
    _f("card_amount_sum_1h", "card", "sum", HOUR, "major units", "spent in 1 h"),
    _f("card_amount_sum_24h", "card", "sum", DAY, "major units", "spent in 24 h"),
    _f("card_amount_sum_7d", "card", "sum", 7 * DAY, "major units", "spent in 7 d"),
    _f("card_amount_sum_30d", "card", "sum", 30 * DAY, "major units", "spent in 30 d"),
    _f("card_amount_mean_24h", "card", "mean", DAY, "major units", "mean amount in 24 h"),
    _f("card_amount_mean_7d", "card", "mean", 7 * DAY, "major units", "mean amount in 7 d"),
    _f("card_amount_mean_30d", "card", "mean", 30 * DAY, "major units", "mean amount in 30 d"),
    _f("card_amount_max_24h", "card", "max", DAY, "major units", "largest amount in 24 h"),
    _f("card_amount_max_30d", "card", "max", 30 * DAY, "major units", "largest amount in 30 d"),
    _f("card_amount_std_30d", "card", "prior_std", 30 * DAY, "major units", "standard deviation of prior amounts in 30 d"),
    _f("amount_deviation_30d", "card", "deviation", 30 * DAY, "standard deviations", "amount against the prior mean of 30 d"),
    _f("card_amount_ratio_30d", "card", "ratio", 30 * DAY, "ratio", "amount / prior mean of 30 d"),
    _f("card_amount_rank_30d", "card", "rank", 30 * DAY, "share", "share of prior amounts in 30 d that are smaller"),
    _f("card_velocity_ratio_24h_30d", "card", "count_ratio", DAY, "ratio", "transactions in 24 h against the daily average of 30 d", 30 * DAY),
    _f("card_spend_ratio_24h_30d", "card", "sum_ratio", DAY, "ratio", "spending in 24 h against the daily average of 30 d", 30 * DAY),
    _f("card_seconds_since_last", "card", "seconds_since_last", 0, "s", "since the newest prior transaction"),
    _f("card_age_days", "card", "age", 0, "d", "since the card was first seen"),
    _f("card_distinct_merchants_1h", "card", "distinct_merchants", HOUR, "merchants", "in 1 h"),
    _f("card_distinct_merchants_24h", "card", "distinct_merchants", DAY, "merchants", "in 24 h"),
    _f("card_distinct_merchants_30d", "card", "distinct_merchants", 30 * DAY, "merchants", "in 30 d"),
    _f("card_distinct_mccs_24h", "card", "distinct_mccs", DAY, "categories", "in 24 h"),
    _f("card_distinct_devices_30d", "card", "distinct_devices", 30 * DAY, "devices", "in 30 d"),
    _f("card_distinct_countries_24h", "card", "distinct_countries", DAY, "countries", "in 24 h"),
    _f("card_distinct_countries_30d", "card", "distinct_countries", 30 * DAY, "countries", "in 30 d"),
    _f("card_distinct_ips_24h", "card", "distinct_ips", DAY, "addresses", "in 24 h"),
    _f("card_small_tx_count_1h", "card", "small_count", HOUR, "transactions", "below 5.00 in 1 h: card testing"),
    _f("card_merchant_is_new", "card", "merchant_is_new", 30 * DAY, "0/1", "no prior in 30 d at this merchant"),
    _f("device_fingerprint_new", "card", "device_is_new", 30 * DAY, "0/1", "no prior in 30 d with this device"),
    _f("card_country_is_new", "card", "country_is_new", 30 * DAY, "0/1", "no prior in 30 d in this country"),
    _f("card_mcc_is_new", "card", "mcc_is_new", 30 * DAY, "0/1", "no prior in 30 d in this category"),
    _f("card_km_from_last", "card", "km_from_last", 0, "km", "great circle from the newest prior position"),
    _f("card_speed_kmh", "card", "speed", 0, "km/h", "speed from the newest prior position"),
    _f("card_hour_deviation", "card", "hour_deviation", 30 * DAY, "h", "circular distance from the usual hour of 30 d"),
    _f("merchant_tx_count_1h", "merchant", "count", HOUR, "transactions", "in 1 h"),
    _f("merchant_tx_count_24h", "merchant", "count", DAY, "transactions", "in 24 h"),
    _f("merchant_tx_count_7d", "merchant", "count", 7 * DAY, "transactions", "in 7 d"),
    _f("merchant_tx_count_30d", "merchant", "count", 30 * DAY, "transactions", "in 30 d"),
    _f("merchant_amount_mean_30d", "merchant", "mean", 30 * DAY, "major units", "mean amount in 30 d"),
    _f("merchant_amount_deviation_30d", "merchant", "deviation", 30 * DAY, "standard deviations", "amount against the merchant's prior mean of 30 d"),
    _f("merchant_fraud_rate_1d", "merchant", "fraud_rate", DAY, "share", "frauds / transactions in 1 d, ending D ago"),
    _f("merchant_fraud_rate_7d", "merchant", "fraud_rate", 7 * DAY, "share", "frauds / transactions in 7 d, ending D ago"),
    _f("merchant_fraud_rate_30d", "merchant", "fraud_rate", 30 * DAY, "share", "frauds / transactions in 30 d, ending D ago"),
    _f("merchant_risk_score", "merchant", "risk", 30 * DAY, "share", "fraud rate of 30 d smoothed towards the prior"),
    _f("merchant_age_days", "merchant", "age", 0, "d", "since the merchant was first seen"),
    _f("device_tx_count_1h", "device", "count", HOUR, "transactions", "in 1 h"),
    _f("device_tx_count_24h", "device", "count", DAY, "transactions", "in 24 h"),
    _f("device_distinct_cards_24h", "device", "distinct_cards", DAY, "cards", "in 24 h"),
    _f("device_distinct_cards_30d", "device", "distinct_cards", 30 * DAY, "cards", "in 30 d"),
    _f("device_fraud_count_30d", "device", "fraud_count", 30 * DAY, "frauds", "in 30 d, ending D ago"),
    _f("device_age_days", "device", "age", 0, "d", "since the device was first seen"),
    _f("ip_tx_count_1h", "ip", "count", HOUR, "transactions", "in 1 h"),
    _f("ip_tx_count_24h", "ip", "count", DAY, "transactions", "in 24 h"),
    _f("ip_distinct_cards_1h", "ip", "distinct_cards", HOUR, "cards", "in 1 h"),
    _f("ip_distinct_cards_24h", "ip", "distinct_cards", DAY, "cards", "in 24 h"),
    _f("ip_fraud_count_30d", "ip", "fraud_count", 30 * DAY, "frauds", "in 30 d, ending D ago"),
)  # fmt: skip

VECTOR_SIZE: Final = len(CATALOGUE)
NAMES: Final[tuple[str, ...]] = tuple(feature.name for feature in CATALOGUE)
ANOMALY_FEATURE: Final = "user_behavior_anomaly_score"
"""Feature 71: added by the scorer from the bundle's anomaly model over `ANOMALY_INPUTS`."""
ANOMALY_INPUTS: Final = slice(10, 48)


def fingerprint(catalogue: tuple[Feature, ...] = CATALOGUE) -> bytes:
    """Return the 8-byte fingerprint of names, definitions and order (BLAKE2b)."""
    text = "\n".join(
        f"{f.name}|{f.entity}|{f.statistic}|{f.window}|{f.baseline}|{f.unit}" for f in catalogue
    )
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


FINGERPRINT: Final = fingerprint()
