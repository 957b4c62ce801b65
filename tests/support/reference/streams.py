"""Streams of transactions and labels that try the engine's corners: for the property tests.

An event is {"transaction": …} or {"label": …}, as `OfflineEngine.run` takes them. `stream` makes a
whole stream from a seed; `streams` lets hypothesis choose, and shrink, every event.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as s

from tests.support.reference.statistics import DAY, HOUR, MINUTE

Event = dict[str, dict[str, Any]]

START: Final = 1_525_132_800_000
"""2018-05-01 00:00 UTC."""
STEPS: Final = (0, 1, 999, 5 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY)
"""Steps between events that hit the edges of windows exactly."""
COUNTRIES: Final = ("DE", "FR", "US")
CHANNELS: Final = ("POS", "ECOM", "ATM", "MOTO", "OTHER")
KINDS: Final = ("PURCHASE", "REFUND", "REVERSAL", "VERIFICATION")
IPS: Final = (
    "203.0.113.7",
    "198.51.100.1",
    "2001:db8::1",
    "2001:db8::2:1",
    "2001:db8:0:1::1",
    "::ffff:203.0.113.7",
)
PLACES: Final = ((52.52, 13.405), (48.8566, 2.3522), (-33.8688, 151.2093), (52.5200001, 13.405))
AMOUNTS: Final = (0, 1, 499, 500, 501, 1000, 1234, 99_999, 10**12)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a seeded stream looks: how many of each entity, how far time steps, what goes wrong.

    `late_share`, `duplicate_share` and `label_share` are shares of events; `far_share` is the share
    of the out-of-order events that lie beyond retention; `missing` is the share of optional fields
    that are left out; `kind_share` is the share of refunds, reversals and verifications; `step` is
    the mean step in ms.
    """

    cards: int = 4
    merchants: int = 3
    devices: int = 3
    step: int = 4 * HOUR
    late_share: float = 0.15
    far_share: float = 0.15
    tie_share: float = 0.1
    duplicate_share: float = 0.08
    label_share: float = 0.25
    missing: float = 0.3
    kind_share: float = 0.2
    largest_amount: int = 500_000


def stream(seed: int, length: int, shape: Shape | None = None) -> list[Event]:
    """Return `length` events; the same for the same seed, on every machine."""
    shape = shape or Shape()
    random_ = random.Random(seed)
    events: list[Event] = []
    sent: list[dict[str, Any]] = []
    now = START
    while len(events) < length:
        if random_.random() >= shape.tie_share:
            now += int(random_.expovariate(1 / shape.step))
        chance = random_.random()
        if sent and chance < shape.duplicate_share:
            tx = _again(random_, random_.choice(sent[-40:]), now, shape)
            events.append({"transaction": tx})
            continue
        time = now
        if random_.random() < shape.late_share:
            far = random_.random() < shape.far_share
            time -= random_.randrange(25 * DAY, 45 * DAY) if far else random_.randrange(3 * DAY)
        tx = _transaction(random_, f"t{len(events)}", time, shape)
        early = random_.random() < shape.label_share
        if early and random_.random() < 0.3:
            events.append(label_of(tx, random_.random() < 0.7))
        sent.append(tx)
        events.append({"transaction": tx})
        while sent and random_.random() < shape.label_share:
            events.append(label_of(random_.choice(sent[-60:]), random_.random() < 0.6))
    return events[:length]


def label_of(tx: dict[str, Any], fraud: bool) -> Event:
    """Return the label of a transaction."""
    return {
        "label": {
            "card_id": tx["card_id"],
            "transaction_id": tx["transaction_id"],
            "transaction_time": tx["event_time"],
            "fraud": fraud,
        }
    }


def _transaction(random_: random.Random, name: str, time: int, shape: Shape) -> dict[str, Any]:
    tx: dict[str, Any] = {
        "transaction_id": name,
        "event_time": time,
        "card_id": f"card{random_.randrange(shape.cards)}",
        "merchant_id": f"merchant{random_.randrange(shape.merchants)}",
        "amount": random_.choice(
            (random_.choice(AMOUNTS[:-1]), random_.randrange(shape.largest_amount))
        ),
        "currency": "EUR",
    }
    latitude, longitude = random_.choice(PLACES)
    optional = {
        "mcc": random_.choice((0, 5411, 5999, 7995)),
        "channel": random_.choice(CHANNELS),
        "device_id": f"device{random_.randrange(shape.devices)}",
        "ip": random_.choice(IPS),
        "ip_country": random_.choice(COUNTRIES),
        "card_country": random_.choice(COUNTRIES),
        "merchant_country": random_.choice(COUNTRIES),
        "latitude": latitude + random_.randrange(-3, 3) / 10,
        "longitude": longitude,
    }
    for field, value in optional.items():
        if random_.random() >= shape.missing:
            tx[field] = value
        elif field != "channel" and random_.random() < 0.5:
            tx[field] = None
    if random_.random() < shape.kind_share:
        tx["kind"] = random_.choice(KINDS[1:])
    return tx


def _again(random_: random.Random, tx: dict[str, Any], now: int, shape: Shape) -> dict[str, Any]:
    """Return a duplicate: the very same, or with time, amount or merchant of its own."""
    copy = dict(tx)
    if random_.random() < 0.5:
        copy["event_time"] = random_.choice((now, tx["event_time"] - HOUR, tx["event_time"] + 1))
    if random_.random() < 0.3:
        copy["amount"] = random_.randrange(shape.largest_amount)
    if random_.random() < 0.3:
        copy["merchant_id"] = f"merchant{random_.randrange(shape.merchants)}"
    if random_.random() < 0.3:
        copy["device_id"] = f"device{random_.randrange(shape.devices)}"
    if random_.random() < 0.1:
        copy["kind"] = random_.choice(KINDS)
    return copy


def _optional(field: str, values: Sequence[Any]) -> s.SearchStrategy[dict[str, Any]]:
    return s.sampled_from([{}, {field: None}, *({field: value} for value in values)])


@s.composite
def _drawn_transaction(draw: s.DrawFn, name: str, time: int) -> dict[str, Any]:
    tx: dict[str, Any] = {
        "transaction_id": name,
        "event_time": time,
        "card_id": draw(s.sampled_from(("a", "b"))),
        "merchant_id": draw(s.sampled_from(("m", "n"))),
        "amount": draw(s.one_of(s.sampled_from(AMOUNTS), s.integers(0, 10_000))),
        "currency": "EUR",
    }
    tx |= draw(_optional("mcc", (0, 5411)))
    tx |= draw(s.sampled_from([{}, *({"channel": channel} for channel in CHANNELS)]))
    tx |= draw(s.sampled_from([{}, {}, {}, *({"kind": kind} for kind in KINDS[1:])]))
    tx |= draw(_optional("device_id", ("d", "e")))
    tx |= draw(_optional("ip", IPS))
    for field in ("ip_country", "card_country", "merchant_country"):
        tx |= draw(_optional(field, COUNTRIES))
    tx |= draw(_optional("latitude", (0.0, 52.52, -90.0, 89.9999999)))
    tx |= draw(_optional("longitude", (0.0, 13.405, -180.0, 180.0)))
    return tx


@s.composite
def streams(draw: s.DrawFn, longest: int = 25) -> list[Event]:
    """Streams of up to `longest` events: any order in time, duplicates, labels before and after."""
    events: list[Event] = []
    sent: list[dict[str, Any]] = []
    now = START
    for index in range(draw(s.integers(1, longest))):
        kind = draw(s.sampled_from(("new", "new", "new", "again", "label", "early")))
        now += draw(s.sampled_from((1, 1, -1))) * draw(s.sampled_from(STEPS))
        if kind == "label" and sent:
            events.append(label_of(draw(s.sampled_from(sent)), draw(s.booleans())))
            continue
        name = f"t{index}"
        if kind == "again" and sent:
            name = draw(s.sampled_from(sent))["transaction_id"]
        tx = draw(_drawn_transaction(name, now))
        if kind == "early":
            events.append(label_of(tx, draw(s.booleans())))
        sent.append(tx)
        events.append({"transaction": tx})
    return events
