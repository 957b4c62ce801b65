"""The stream features in plain Python, as `schemas.features.CATALOGUE` defines and orders them.

Every entity is a list of the transactions processed for it; every feature scans that list. Nothing
is shared with the engine, not even the hashes. The property tests compare the engine with this.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypedDict

from tests.support.reference import statistics as st
from tests.support.reference.statistics import DAY, HOUR, MINUTE, NAN

CHANNELS = ["POS", "ECOM", "ATM", "MOTO", "OTHER"]
RETENTION = 30 * DAY


class Flags(TypedDict):
    """What was said of a transaction beside its vector."""

    duplicate: bool
    late: bool


@dataclass(eq=False, slots=True)
class Processed:
    """One transaction as far as features look at it; `fraud` is its label so far."""

    order: int
    id: str
    time: int
    amount: int
    card: str
    merchant: str
    device: str | None
    ip: str | None
    mcc: int | None
    country: str | None
    position: st.Position | None
    fraud: bool = False
    counted: bool = True


@dataclass(slots=True)
class Entity:
    """The processed transactions of a card, merchant, device or address, in order of arrival."""

    events: list[Processed] = field(default_factory=list)
    first_seen: int | None = None
    given_back: dict[str, int] = field(default_factory=dict)
    """Times of refunds and reversals by their ids, of a card."""

    def newest(self) -> int | None:
        """Time of the newest event."""
        return max((y.time for y in self.events), default=None)

    def add(self, x: Processed, keep: int) -> None:
        """Add x, then drop what is `keep` ms or more older than the newest."""
        self.first_seen = x.time if self.first_seen is None else min(self.first_seen, x.time)
        self.events.append(x)
        newest = max(y.time for y in self.events)
        self.events = [y for y in self.events if y.time > newest - keep]


def address(ip: str | None) -> str | None:
    """What state is kept by: v4 as it is (also when mapped into v6), v6 by its /64."""
    if not ip:
        return None
    parsed = ipaddress.ip_address(ip)
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network(f"{parsed}/64", strict=False))


def position_of(tx: Mapping[str, Any]) -> st.Position | None:
    """Where it happened, in 1e-7 degrees; None unless both coordinates are there."""
    latitude, longitude = tx.get("latitude"), tx.get("longitude")
    if latitude is None or longitude is None or math.isnan(latitude) or math.isnan(longitude):
        return None
    if latitude == longitude == 0:  # no place
        return None
    return round(latitude * 1e7), round(longitude * 1e7)


def mismatch(one: str | None, other: str | None) -> float:
    """1 if different, NaN if either is missing."""
    return float(one != other) if one and other else NAN


def distinct(values: Iterable[object]) -> float:
    """Number of different values; missing ones do not count."""
    return float(len({value for value in values if value is not None}))


def of_some(statistic: Callable[[Sequence[int]], Fraction | int], amounts: Sequence[int]) -> float:
    """A statistic of amounts, in major units; NaN of none."""
    return st.major(statistic(amounts)) if amounts else NAN


def quotient(one: int, other: int) -> float:
    """The ratio of two numbers; NaN if the second is 0."""
    return float(Fraction(one, other)) if other else NAN


def is_new(value: object, prior: Iterable[object]) -> float:
    """1 if `value` is not among `prior`; NaN if it is missing."""
    return NAN if value is None else float(value not in list(prior))


class Reference:
    """Transactions and labels in, vectors out; as slow as it is plain.

    `stretch` scales every window; the tests of hot entities bracket the engine's rounded windows
    between a shorter and a longer one.
    """

    def __init__(
        self,
        label_delay_ms: int,
        merchant_prior: float = 0.005,
        merchant_weight: float = 20,
        *,
        stretch: Fraction = Fraction(1),
    ) -> None:
        self.delay = label_delay_ms
        self.keep = RETENTION + label_delay_ms
        self.prior = Fraction(merchant_prior)
        self.weight = Fraction(merchant_weight)
        self.stretch = stretch
        self.cards: dict[str, Entity] = {}
        self.merchants: dict[str, Entity] = {}
        self.devices: dict[str, Entity] = {}
        self.ips: dict[str, Entity] = {}
        self.waiting: dict[tuple[str, str], bool] = {}
        self.processed = 0

    def transaction(self, tx: Mapping[str, Any]) -> tuple[list[float], Flags]:
        """Return the features and the flags of one transaction, then take it into the state."""
        x = self._read(tx)
        entities = self._entities(x)
        card = self.cards.setdefault(x.card, Entity())
        original = next((y for y in reversed(card.events) if y.id == x.id), None)
        newest = card.newest()
        late = newest is not None and x.time <= newest - RETENTION
        refunded = self._remembers(card, x.id)
        vector = [
            *self._of_transaction(x, tx),
            *self._of_card(x, card, original),
            *self._of_merchant(x, self.merchants.setdefault(x.merchant, Entity()), original),
            *self._of_device(x, self.devices, original),
            *self._of_ip(x, self.ips, original),
        ]
        if original is None and not late and not refunded and not x.counted:
            self.waiting.pop((x.card, x.id), None)
            card.given_back[x.id] = x.time
        elif original is None and not late and not refunded:
            x.fraud = self.waiting.pop((x.card, x.id), False)
            for entity in entities:
                at_entity = entity.newest()
                if at_entity is None or x.time > at_entity - self.keep:
                    entity.add(x, self.keep)
        return vector, {"duplicate": original is not None or refunded, "late": late}

    def _remembers(self, card: Entity, name: str) -> bool:
        """Whether a refund or reversal of this id is known and not too old."""
        newest, time = card.newest(), card.given_back.get(name)
        return time is not None and (newest is None or time > newest - self.keep)

    def label(self, card_id: str, transaction_id: str, fraud: bool) -> None:
        """Take a label: of a transaction that the card retains, or to wait for it."""
        for y in self.cards.get(card_id, Entity()).events:
            if y.id == transaction_id:
                y.fraud = fraud
                return
        if not self._remembers(self.cards.get(card_id, Entity()), transaction_id):
            self.waiting[card_id, transaction_id] = fraud

    def _read(self, tx: Mapping[str, Any]) -> Processed:
        self.processed += 1
        return Processed(
            order=self.processed,
            id=tx["transaction_id"],
            time=tx["event_time"],
            amount=0 if tx.get("kind") == "VERIFICATION" else tx["amount"],
            card=tx["card_id"],
            merchant=tx["merchant_id"],
            device=tx.get("device_id") or None,
            ip=address(tx.get("ip")),
            mcc=tx.get("mcc"),
            country=tx.get("merchant_country") or tx.get("ip_country") or None,
            position=position_of(tx),
            counted=tx.get("kind") not in ("REFUND", "REVERSAL"),
        )

    def _entities(self, x: Processed) -> list[Entity]:
        """The card, the merchant and, if named, the device and the address of x."""
        found = [
            self.cards.setdefault(x.card, Entity()),
            self.merchants.setdefault(x.merchant, Entity()),
        ]
        if x.device is not None:
            found.append(self.devices.setdefault(x.device, Entity()))
        if x.ip is not None:
            found.append(self.ips.setdefault(x.ip, Entity()))
        return found

    def _windows(
        self, x: Processed, entity: Entity, original: Processed | None
    ) -> tuple[Callable[[int], list[Processed]], Callable[[int], list[Processed]]]:
        """Return "prior in W" and "in W" of the entity; the original of a duplicate is left out.

        A refund or reversal is not in its own windows either.
        """
        past = [y for y in entity.events if y is not original and y.time <= x.time]

        def prior(window: int) -> list[Processed]:
            after = math.floor(x.time - window * self.stretch)
            return [y for y in past if after < y.time]

        def inside(window: int) -> list[Processed]:
            return [*prior(window), x] if x.counted else prior(window)

        return prior, inside

    def _delayed(
        self, x: Processed, entity: Entity, original: Processed | None, window: int
    ) -> list[Processed]:
        """The events with t - D - W < time <= t - D."""
        until = x.time - self.delay
        after = math.floor(until - window * self.stretch)
        return [y for y in entity.events if y is not original and after < y.time <= until]

    def _of_transaction(self, x: Processed, tx: Mapping[str, Any]) -> list[float]:
        hour, weekday = st.hour_of_day(x.time), st.day_of_week(x.time)
        return [
            st.major(tx["amount"]),  # amount
            float(tx["amount"] % 100 == 0),  # amount_is_round
            float(hour),  # hour_of_day
            float(weekday),  # day_of_week
            float(weekday >= 5),  # is_weekend
            float(hour <= 6),  # is_night
            float(CHANNELS.index(tx.get("channel") or "OTHER")),  # channel_code
            NAN if x.mcc is None else float(x.mcc),  # mcc_code
            mismatch(tx.get("ip_country"), tx.get("card_country")),  # ip_country_mismatch
            mismatch(tx.get("merchant_country"), tx.get("card_country")),  # merchant_country_…
        ]

    def _of_card(self, x: Processed, card: Entity, original: Processed | None) -> list[float]:
        prior, inside = self._windows(x, card, original)

        def amounts(events: Sequence[Processed]) -> list[int]:
            return [y.amount for y in events]

        before = prior(30 * DAY)
        spent_24h, spent_30d = sum(amounts(inside(DAY))), sum(amounts(inside(30 * DAY)))
        past = [y for y in card.events if y is not original and y.time <= x.time]
        newest = max((y.time for y in past), default=None)
        return [
            *(float(len(inside(w))) for w in (5 * MINUTE, HOUR, DAY, 7 * DAY, 30 * DAY)),
            *(st.major(sum(amounts(inside(w)))) for w in (HOUR, DAY, 7 * DAY, 30 * DAY)),
            *(of_some(st.mean, amounts(inside(w))) for w in (DAY, 7 * DAY, 30 * DAY)),
            *(of_some(max, amounts(inside(w))) for w in (DAY, 30 * DAY)),
            st.standard_deviation(amounts(before)),  # card_amount_std_30d
            st.deviation(x.amount, amounts(before)),  # amount_deviation_30d
            st.ratio(x.amount, amounts(before)),  # card_amount_ratio_30d
            st.rank(x.amount, amounts(before)),  # card_amount_rank_30d
            quotient(30 * len(inside(DAY)), len(inside(30 * DAY))),  # card_velocity_ratio_…
            quotient(30 * spent_24h, spent_30d),  # card_spend_ratio_…
            NAN if newest is None else (x.time - newest) / 1000,  # card_seconds_since_last
            self._age_days(x, card),  # card_age_days
            *(distinct(y.merchant for y in inside(w)) for w in (HOUR, DAY, 30 * DAY)),
            distinct(y.mcc for y in inside(DAY)),  # card_distinct_mccs_24h
            distinct(y.device for y in inside(30 * DAY)),  # card_distinct_devices_30d
            *(distinct(y.country for y in inside(w)) for w in (DAY, 30 * DAY)),
            distinct(y.ip for y in inside(DAY)),  # card_distinct_ips_24h
            float(len([y for y in inside(HOUR) if y.amount < 500])),  # card_small_tx_count_1h
            is_new(x.merchant, (y.merchant for y in before)),  # card_merchant_is_new
            is_new(x.device, (y.device for y in before)),  # device_fingerprint_new
            is_new(x.country, (y.country for y in before)),  # card_country_is_new
            is_new(x.mcc, (y.mcc for y in before)),  # card_mcc_is_new
            *self._movement(x, past),  # card_km_from_last, card_speed_kmh
            st.hour_deviation(
                st.hour_of_day(x.time), [st.hour_of_day(y.time) for y in before]
            ),  # card_hour_deviation
        ]

    def _movement(self, x: Processed, past: Sequence[Processed]) -> list[float]:
        placed = [y for y in past if y.position is not None]
        if x.position is None or not placed:
            return [NAN, NAN]
        last = max(placed, key=lambda y: (y.time, y.order))
        assert last.position is not None
        km = st.great_circle_km(last.position, x.position)
        return [km, km / max((x.time - last.time) / HOUR, 1 / 60)]

    def _age_days(self, x: Processed, entity: Entity) -> float:
        first = x.time if entity.first_seen is None else min(entity.first_seen, x.time)
        return (x.time - first) / DAY

    def _of_merchant(
        self, x: Processed, merchant: Entity, original: Processed | None
    ) -> list[float]:
        prior, inside = self._windows(x, merchant, original)
        rates = []
        for window in (DAY, 7 * DAY, 30 * DAY):
            known = self._delayed(x, merchant, original, window)
            frauds = len([y for y in known if y.fraud])
            rates.append(frauds / len(known) if known else 0.0)
        known = self._delayed(x, merchant, original, 30 * DAY)
        frauds = len([y for y in known if y.fraud])
        return [
            *(float(len(inside(w))) for w in (HOUR, DAY, 7 * DAY, 30 * DAY)),
            of_some(st.mean, [y.amount for y in inside(30 * DAY)]),
            st.deviation(x.amount, [y.amount for y in prior(30 * DAY)]),
            *rates,
            float((frauds + self.weight * self.prior) / (len(known) + self.weight)),
            self._age_days(x, merchant),
        ]

    def _of_device(
        self, x: Processed, devices: Mapping[str, Entity], original: Processed | None
    ) -> list[float]:
        if x.device is None:
            return [NAN] * 6
        device = devices[x.device]
        _, inside = self._windows(x, device, original)
        known = self._delayed(x, device, original, 30 * DAY)
        return [
            *(float(len(inside(w))) for w in (HOUR, DAY)),
            *(distinct(y.card for y in inside(w)) for w in (DAY, 30 * DAY)),
            float(len([y for y in known if y.fraud])),
            self._age_days(x, device),
        ]

    def _of_ip(
        self, x: Processed, ips: Mapping[str, Entity], original: Processed | None
    ) -> list[float]:
        if x.ip is None:
            return [NAN] * 5
        ip = ips[x.ip]
        _, inside = self._windows(x, ip, original)
        known = self._delayed(x, ip, original, 30 * DAY)
        return [
            *(float(len(inside(w))) for w in (HOUR, DAY)),
            *(distinct(y.card for y in inside(w)) for w in (HOUR, DAY)),
            float(len([y for y in known if y.fraud])),
        ]
