"""The feature catalogue as data: what each feature is, how it is computed and how it is told.

The engine compiles it into positions of its scratch space; the fingerprint of the list goes into
every vector and every model, so that a scorer never reads a vector under another catalogue. Whoever
needs to know something about a feature reads it here, by field: `schemas.words.feature_words` puts values
into words, the monitor leaves the calendar out of drift, the data check knows what cannot be.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

Entity = Literal["transaction", "card", "merchant", "device", "ip"]
Kind = Literal[
    "amount",  # of money, in major units of the base currency
    "count",  # of things, which `unit` names
    "share",  # in [0, 1]
    "ratio",  # how many times another value
    "deviation",  # from a mean, in standard deviations
    "flag",  # 0 or 1
    "code",  # a number that stands for a name
    "calendar",  # what the clock says: the same for everybody at that moment
    "age",  # since something was first seen; it grows by itself
    "duration",
    "distance",
    "speed",
]
Unit = Literal[
    "major units", "0/1", "h UTC", "day", "code", "standard deviations", "ratio", "share",
    "s", "h", "d", "km", "km/h",
    "transactions", "merchants", "categories", "devices", "countries", "addresses", "cards",
    "frauds",
]  # fmt: skip
"""Part of the fingerprint, and therefore never reworded: `COUNTED` has the words for people."""
COUNTED: Final[dict[Unit, tuple[str, str]]] = {
    "transactions": ("transaction", "transactions"),
    "merchants": ("merchant", "merchants"),
    "categories": ("merchant category", "merchant categories"),
    "devices": ("device", "devices"),
    "countries": ("country", "countries"),
    "addresses": ("IP address", "IP addresses"),
    "cards": ("card", "cards"),
    "frauds": ("fraud", "frauds"),
}
"""What counts count: one of them, and several."""

MINUTE: Final = 60_000
HOUR: Final = 3_600_000
DAY: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the vector.

    Attributes:
        name: as in vectors, bundles, policies and reasons.
        entity: whose history the feature describes.
        statistic: a quantity that the engine computes for `entity`.
        window: in ms; 0 for a statistic without one.
        unit: of the value in the vector.
        kind: what sort of quantity the value is.
        description: what the feature is, for people, without a value.
        phrase: how a value is told; "{}" stands for the value with its unit. Of a flag: set.
        baseline: in ms, the longer window of a ratio; 0 for all others.
        otherwise: how a flag is told that is not set; empty for all others.
    """

    name: str
    entity: Entity
    statistic: str
    window: int
    unit: Unit
    kind: Kind
    description: str
    phrase: str
    baseline: int = 0
    otherwise: str = ""

    @property
    def is_flag(self) -> bool:
        """Whether the value is 0 or 1, those of the calendar included."""
        return self.unit == "0/1"


_f = Feature


def _count(
    name: str, entity: Entity, statistic: str, window: int, unit: Unit, told: str
) -> Feature:
    """Return a count; `told` follows the number of the things and their name."""
    things = COUNTED[unit][1]
    return Feature(
        name, entity, statistic, window, unit, "count", f"{things} {told}", f"{{}} {told}"
    )


def _flag(
    name: str, entity: Entity, statistic: str, window: int, told: str, otherwise: str,
    kind: Kind = "flag",
) -> Feature:  # fmt: skip
    return Feature(name, entity, statistic, window, "0/1", kind, told, told, otherwise=otherwise)


CATALOGUE: Final[tuple[Feature, ...]] = (
    _f("amount", "transaction", "amount", 0, "major units", "amount", "amount in the base currency", "amount {}"),
    _flag("amount_is_round", "transaction", "is_round", 0, "a round amount", "not a round amount"),
    _f("hour_of_day", "transaction", "hour", 0, "h UTC", "calendar", "hour of the day", "in the hour from {}"),
    _f("day_of_week", "transaction", "weekday", 0, "day", "calendar", "day of the week", "on a {}"),
    _flag("is_weekend", "transaction", "is_weekend", 0, "at the weekend", "during the week", "calendar"),
    _flag("is_night", "transaction", "is_night", 0, "at night, before 07:00 UTC", "by day, from 07:00 UTC", "calendar"),
    _f("channel_code", "transaction", "channel", 0, "code", "code", "channel", "channel {}"),
    _f("mcc_code", "transaction", "mcc", 0, "code", "code", "merchant category", "merchant category {}"),
    _flag("ip_country_mismatch", "transaction", "ip_country_mismatch", 0, "IP address in another country than the card", "IP address in the card's country"),
    _flag("merchant_country_mismatch", "transaction", "merchant_country_mismatch", 0, "merchant in another country than the card", "merchant in the card's country"),
    _count("card_tx_count_5m", "card", "count", 5 * MINUTE, "transactions", "with the card in 5 minutes"),
    _count("transaction_velocity_1h", "card", "count", HOUR, "transactions", "with the card in 1 hour"),
    _count("card_tx_count_24h", "card", "count", DAY, "transactions", "with the card in 24 hours"),
    _count("card_tx_count_7d", "card", "count", 7 * DAY, "transactions", "with the card in 7 days"),
    _count("card_tx_count_30d", "card", "count", 30 * DAY, "transactions", "with the card in 30 days"),
    _f("card_amount_sum_1h", "card", "sum", HOUR, "major units", "amount", "amount spent with the card in 1 hour", "{} spent with the card in 1 hour"),
    _f("card_amount_sum_24h", "card", "sum", DAY, "major units", "amount", "amount spent with the card in 24 hours", "{} spent with the card in 24 hours"),
    _f("card_amount_sum_7d", "card", "sum", 7 * DAY, "major units", "amount", "amount spent with the card in 7 days", "{} spent with the card in 7 days"),
    _f("card_amount_sum_30d", "card", "sum", 30 * DAY, "major units", "amount", "amount spent with the card in 30 days", "{} spent with the card in 30 days"),
    _f("card_amount_mean_24h", "card", "mean", DAY, "major units", "amount", "mean amount with the card in 24 hours", "mean amount of {} with the card in 24 hours"),
    _f("card_amount_mean_7d", "card", "mean", 7 * DAY, "major units", "amount", "mean amount with the card in 7 days", "mean amount of {} with the card in 7 days"),
    _f("card_amount_mean_30d", "card", "mean", 30 * DAY, "major units", "amount", "mean amount with the card in 30 days", "mean amount of {} with the card in 30 days"),
    _f("card_amount_max_24h", "card", "max", DAY, "major units", "amount", "largest amount with the card in 24 hours", "largest amount of {} with the card in 24 hours"),
    _f("card_amount_max_30d", "card", "max", 30 * DAY, "major units", "amount", "largest amount with the card in 30 days", "largest amount of {} with the card in 30 days"),
    _f("card_amount_std_30d", "card", "prior_std", 30 * DAY, "major units", "amount", "standard deviation of the card's earlier amounts in 30 days", "standard deviation of {} among the card's earlier amounts in 30 days"),
    _f("amount_deviation_30d", "card", "deviation", 30 * DAY, "standard deviations", "deviation", "amount against the card's earlier mean over 30 days, in standard deviations", "amount {} the card's earlier mean over 30 days"),
    _f("card_amount_ratio_30d", "card", "ratio", 30 * DAY, "ratio", "ratio", "amount as a multiple of the card's earlier mean over 30 days", "amount {} the card's earlier mean over 30 days"),
    _f("card_amount_rank_30d", "card", "rank", 30 * DAY, "share", "share", "share of the card's earlier amounts in 30 days that this one exceeds", "amount higher than {} of the card's earlier amounts in 30 days"),
    _f("card_velocity_ratio_24h_30d", "card", "count_ratio", DAY, "ratio", "ratio", "transactions in 24 hours as a multiple of the card's daily average over 30 days", "transactions in 24 hours: {} the card's daily average over 30 days", 30 * DAY),
    _f("card_spend_ratio_24h_30d", "card", "sum_ratio", DAY, "ratio", "ratio", "spending in 24 hours as a multiple of the card's daily average over 30 days", "spending in 24 hours: {} the card's daily average over 30 days", 30 * DAY),
    _f("card_seconds_since_last", "card", "seconds_since_last", 0, "s", "duration", "time since the card's previous transaction", "{} since the card's previous transaction"),
    _f("card_age_days", "card", "age", 0, "d", "age", "time since the card's first transaction", "{} since the card's first transaction"),
    _count("card_distinct_merchants_1h", "card", "distinct_merchants", HOUR, "merchants", "paid with the card in 1 hour"),
    _count("card_distinct_merchants_24h", "card", "distinct_merchants", DAY, "merchants", "paid with the card in 24 hours"),
    _count("card_distinct_merchants_30d", "card", "distinct_merchants", 30 * DAY, "merchants", "paid with the card in 30 days"),
    _count("card_distinct_mccs_24h", "card", "distinct_mccs", DAY, "categories", "used with the card in 24 hours"),
    _count("card_distinct_devices_30d", "card", "distinct_devices", 30 * DAY, "devices", "used with the card in 30 days"),
    _count("card_distinct_countries_24h", "card", "distinct_countries", DAY, "countries", "seen with the card in 24 hours"),
    _count("card_distinct_countries_30d", "card", "distinct_countries", 30 * DAY, "countries", "seen with the card in 30 days"),
    _count("card_distinct_ips_24h", "card", "distinct_ips", DAY, "addresses", "used with the card in 24 hours"),
    _count("card_small_tx_count_1h", "card", "small_count", HOUR, "transactions", "below 5.00 with the card in 1 hour"),
    _flag("card_merchant_is_new", "card", "merchant_is_new", 30 * DAY, "the card's first time at this merchant in 30 days", "not the card's first time at this merchant in 30 days"),
    _flag("device_fingerprint_new", "card", "device_is_new", 30 * DAY, "the card's first time on this device in 30 days", "not the card's first time on this device in 30 days"),
    _flag("card_country_is_new", "card", "country_is_new", 30 * DAY, "the card's first time in this country in 30 days", "not the card's first time in this country in 30 days"),
    _flag("card_mcc_is_new", "card", "mcc_is_new", 30 * DAY, "the card's first time in this merchant category in 30 days", "not the card's first time in this merchant category in 30 days"),
    _f("card_km_from_last", "card", "km_from_last", 0, "km", "distance", "distance from the card's previous position", "{} from the card's previous position"),
    _f("card_speed_kmh", "card", "speed", 0, "km/h", "speed", "travel speed from the card's previous position", "travel speed of {} from the card's previous position"),
    _f("card_hour_deviation", "card", "hour_deviation", 30 * DAY, "h", "duration", "time between this transaction and the card's usual time of day over 30 days", "{} from the card's usual time of day over 30 days"),
    _count("merchant_tx_count_1h", "merchant", "count", HOUR, "transactions", "at the merchant in 1 hour"),
    _count("merchant_tx_count_24h", "merchant", "count", DAY, "transactions", "at the merchant in 24 hours"),
    _count("merchant_tx_count_7d", "merchant", "count", 7 * DAY, "transactions", "at the merchant in 7 days"),
    _count("merchant_tx_count_30d", "merchant", "count", 30 * DAY, "transactions", "at the merchant in 30 days"),
    _f("merchant_amount_mean_30d", "merchant", "mean", 30 * DAY, "major units", "amount", "mean amount at the merchant in 30 days", "mean amount of {} at the merchant in 30 days"),
    _f("merchant_amount_deviation_30d", "merchant", "deviation", 30 * DAY, "standard deviations", "deviation", "amount against the merchant's earlier mean over 30 days, in standard deviations", "amount {} the merchant's earlier mean over 30 days"),
    _f("merchant_fraud_rate_1d", "merchant", "fraud_rate", DAY, "share", "share", "fraud rate at the merchant over 1 day, before the label delay", "fraud rate of {} at the merchant over 1 day, before the label delay"),
    _f("merchant_fraud_rate_7d", "merchant", "fraud_rate", 7 * DAY, "share", "share", "fraud rate at the merchant over 7 days, before the label delay", "fraud rate of {} at the merchant over 7 days, before the label delay"),
    _f("merchant_fraud_rate_30d", "merchant", "fraud_rate", 30 * DAY, "share", "share", "fraud rate at the merchant over 30 days, before the label delay", "fraud rate of {} at the merchant over 30 days, before the label delay"),
    _f("merchant_risk_score", "merchant", "risk", 30 * DAY, "share", "share", "smoothed fraud rate at the merchant over 30 days, before the label delay", "smoothed fraud rate of {} at the merchant over 30 days, before the label delay"),
    _f("merchant_age_days", "merchant", "age", 0, "d", "age", "time since the merchant's first transaction", "{} since the merchant's first transaction"),
    _count("device_tx_count_1h", "device", "count", HOUR, "transactions", "from the device in 1 hour"),
    _count("device_tx_count_24h", "device", "count", DAY, "transactions", "from the device in 24 hours"),
    _count("device_distinct_cards_24h", "device", "distinct_cards", DAY, "cards", "used on the device in 24 hours"),
    _count("device_distinct_cards_30d", "device", "distinct_cards", 30 * DAY, "cards", "used on the device in 30 days"),
    _count("device_fraud_count_30d", "device", "fraud_count", 30 * DAY, "frauds", "from the device in 30 days, before the label delay"),
    _f("device_age_days", "device", "age", 0, "d", "age", "time since the device's first transaction", "{} since the device's first transaction"),
    _count("ip_tx_count_1h", "ip", "count", HOUR, "transactions", "from the IP address in 1 hour"),
    _count("ip_tx_count_24h", "ip", "count", DAY, "transactions", "from the IP address in 24 hours"),
    _count("ip_distinct_cards_1h", "ip", "distinct_cards", HOUR, "cards", "used from the IP address in 1 hour"),
    _count("ip_distinct_cards_24h", "ip", "distinct_cards", DAY, "cards", "used from the IP address in 24 hours"),
    _count("ip_fraud_count_30d", "ip", "fraud_count", 30 * DAY, "frauds", "from the IP address in 30 days, before the label delay"),
)  # fmt: skip

VECTOR_SIZE: Final = len(CATALOGUE)
NAMES: Final[tuple[str, ...]] = tuple(feature.name for feature in CATALOGUE)
ANOMALY_FEATURE: Final = "user_behavior_anomaly_score"
"""Feature 71: added by the scorer from the bundle's anomaly model over `ANOMALY_INPUTS`."""
ANOMALY_DESCRIPTION: Final = "unusual behaviour of the card, by the anomaly model"
_OF_CARDS: Final = [place for place, feature in enumerate(CATALOGUE) if feature.entity == "card"]
ANOMALY_INPUTS: Final = slice(_OF_CARDS[0], _OF_CARDS[-1] + 1)
"""The features of cards, which stand next to each other."""


def names_of(*kinds: Kind) -> frozenset[str]:
    """Return the names of the features of these kinds.

    >>> sorted(names_of("age"))
    ['card_age_days', 'device_age_days', 'merchant_age_days']
    """
    return frozenset(feature.name for feature in CATALOGUE if feature.kind in kinds)


def fingerprint(catalogue: tuple[Feature, ...] = CATALOGUE) -> bytes:
    """Return the 8-byte fingerprint of names, definitions and order (BLAKE2b).

    Kinds and words are not part of it: rewording a description makes no vector unreadable.
    """
    text = "\n".join(
        f"{f.name}|{f.entity}|{f.statistic}|{f.window}|{f.baseline}|{f.unit}" for f in catalogue
    )
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


FINGERPRINT: Final = fingerprint()
NO_DRIFT: Final = names_of("calendar", "age")
"""The calendar, of which a day's window is not a fair sample, and ages, which grow by themselves."""
