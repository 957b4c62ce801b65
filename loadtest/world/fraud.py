"""Kinds of fraud: each function plays one incident that starts on a given day.

An incident may last for weeks; `World` slices it into days. Rates are incidents per day and 10,000
customers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtest.world.genuine import DAY_MS, HOUR_MS
from loadtest.world.places import CITIES, DIGITAL_MCCS, RESALE_MCCS
from loadtest.world.population import Ints, Population
from loadtest.world.rows import ATM, ECOM, POS, WorldRows, join, make_rows

MINUTE_MS: Final = 60_000
Behaviour = Callable[[Population, np.random.Generator, int], WorldRows]


def _moment(rng: np.random.Generator, day: int) -> int:
    """Return a random time of the day: fraud happens around the clock."""
    return day * DAY_MS + int(rng.integers(0, DAY_MS))


def _after(rng: np.random.Generator, start: int, count: int, mean_gap_ms: float) -> Ints:
    gaps: Ints = np.cumsum(rng.exponential(mean_gap_ms, count)).astype(np.int64)
    return start + gaps


def _cards(people: Population, rng: np.random.Generator, count: int) -> Ints:
    return rng.integers(0, len(people.card_owner), count)


def card_testing(people: Population, rng: np.random.Generator, day: int) -> WorldRows:
    """Dozens of stolen cards are tried with tiny amounts at one shop, and some are then used."""
    start, count = _moment(rng, day), int(rng.integers(15, 50))
    cards = _cards(people, rng, count)
    tries = np.repeat(cards, rng.integers(1, 4, count))
    rng.shuffle(tries)
    n = len(tries)
    shop = rng.choice(people.of_category(DIGITAL_MCCS, online=True))
    farm, address = people.fraud_device(rng, 2), people.hosting_address(rng, 3)
    tests = make_rows(
        _after(rng, start, n, 25_000),
        tries,
        shop,
        rng.integers(0, 300, n),
        device=rng.choice(farm, n),
        ip=rng.choice(address, n),
    )
    uses = [
        _spree_online(people, rng, start + int(rng.integers(2, 30)) * HOUR_MS, int(card))
        for card in cards[rng.random(count) < 0.15]
    ]
    return join([tests, *uses])


def _spree_online(people: Population, rng: np.random.Generator, start: int, card: int) -> WorldRows:
    n = int(rng.integers(2, 7))
    shops = rng.choice(people.of_category(RESALE_MCCS, online=True), n)
    return make_rows(
        _after(rng, start, n, 15 * MINUTE_MS),
        card,
        shops,
        rng.lognormal(9.8, 0.6, n),
        device=people.fraud_device(rng, 1),
        ip=people.hosting_address(rng, 1),
    )


def stolen_card_spree(people: Population, rng: np.random.Generator, day: int) -> WorldRows:
    """A thief buys goods that resell well in the shops of one city, until the card is blocked."""
    card = int(_cards(people, rng, 1)[0])
    own = int(people.city[people.card_owner[card]])
    city = own if rng.random() < 0.5 else int(rng.integers(0, len(CITIES)))
    n = int(rng.integers(4, 12))
    resale = people.of_category(RESALE_MCCS, online=False)
    near = resale[people.merchant_city[resale] == city]
    shops = people.shop_in(rng, np.full(n, city))
    if len(near):
        shops = np.where(rng.random(n) < 0.7, rng.choice(near, n), shops)
    amount = np.minimum(rng.lognormal(8.8, 0.5, n) * np.linspace(0.6, 2.2, n), 900_000)
    return make_rows(
        _after(rng, _moment(rng, day), n, 14 * MINUTE_MS),
        card,
        shops,
        amount,
        channel=POS,
        located=rng.random(n) < 0.9,
    )


def account_takeover(people: Population, rng: np.random.Generator, day: int) -> WorldRows:
    """Somebody makes large purchases with a known card, from a new device and IP address."""
    card = _cards(people, rng, 1)
    start = day * DAY_MS + int(rng.integers(0, 6 * HOUR_MS))
    n = int(rng.integers(2, 7))
    shops = rng.choice(people.of_category((*RESALE_MCCS, 4511, 7011), online=True), n)
    return make_rows(
        _after(rng, start, n, 40 * MINUTE_MS),
        int(card[0]),
        shops,
        rng.lognormal(10.2, 0.7, n),
        device=people.fraud_device(rng, 1),
        ip=people.hosting_address(rng, 1),
    )


def compromised_merchant(people: Population, rng: np.random.Generator, day: int) -> WorldRows:
    """A shop's terminal is tapped: for days there are copied purchases, and card numbers leak."""
    shop = int(rng.choice(people.favourite_shop[int(rng.integers(0, people.customers)), :3]))
    victims = np.flatnonzero((people.favourite_shop == shop).any(1))
    victims = rng.choice(victims, min(len(victims), int(rng.integers(15, 45))), replace=False)
    n = len(victims)
    days = day + rng.integers(0, 9, n)
    amount = np.exp(people.merchant_mean[shop] + rng.normal(0.5, 0.6, n)) * 100
    copies = make_rows(
        days * DAY_MS + rng.integers(6 * HOUR_MS, 21 * HOUR_MS, n),
        victims,
        shop,
        amount,
        channel=POS,
        located=True,
    )
    leaked = victims[rng.random(n) < 0.4]
    uses = [
        _spree_online(people, rng, _moment(rng, day + int(rng.integers(1, 14))), int(card))
        for card in leaked
    ]
    return join([copies, *uses])


def farm(people: Population, rng: np.random.Generator, day: int) -> WorldRows:
    """A few devices behind a few IP addresses work through a list of cards for days."""
    cards = _cards(people, rng, int(rng.integers(20, 60)))
    each = np.repeat(cards, rng.integers(1, 5, len(cards)))
    n = len(each)
    devices, addresses = people.fraud_device(rng, 3), people.hosting_address(rng, 2)
    span = int(rng.integers(2, 6)) * DAY_MS
    return make_rows(
        day * DAY_MS + np.sort(rng.integers(0, span, n)),
        each,
        rng.choice(people.of_category(DIGITAL_MCCS, online=True), n),
        rng.lognormal(8.0, 0.6, n),
        device=rng.choice(devices, n),
        ip=rng.choice(addresses, n),
    )


def slow_abuse(people: Population, rng: np.random.Generator, day: int) -> WorldRows:
    """Somebody makes small online payments for weeks, hoping that nobody reads the statement."""
    n = int(rng.integers(8, 24))
    shops = rng.choice(people.of_category(DIGITAL_MCCS, online=True), 2)
    return make_rows(
        day * DAY_MS + np.sort(rng.integers(0, 20 * DAY_MS, n)),
        int(_cards(people, rng, 1)[0]),
        rng.choice(shops, n),
        rng.integers(300, 1600, n),
        device=people.fraud_device(rng, 1),
        ip=people.hosting_address(rng, 1),
    )


def bust_out(people: Population, rng: np.random.Generator, day: int) -> WorldRows:
    """The cardholder uses up the credit line on purpose, with ever larger amounts close to home."""
    customer = rng.integers(0, people.customers, 1)
    n = int(rng.integers(10, 30))
    times = day * DAY_MS + np.sort(rng.beta(2.5, 1.0, n) * 5 * DAY_MS)
    city = people.city[customer].repeat(n)
    cash = rng.random(n) < 0.3
    goods = rng.choice(people.of_category(RESALE_MCCS), n)
    amount = rng.lognormal(9.6, 0.5, n) * np.linspace(0.5, 2.0, n)
    return make_rows(
        times,
        int(customer[0]),
        np.where(cash, people.atm_in(rng, city), goods),
        np.where(cash, np.clip(np.rint(amount / 5000), 1, 20) * 5000, amount),
        channel=np.where(cash, ATM, np.where(people.merchant_online[goods], ECOM, POS)),
        device=np.where(cash, -1, people.phone(customer, day)[0]),
        ip=np.where(cash | ~people.merchant_online[goods], -1,
                    people.home_address(rng, customer)[0]),
        located=cash,
    )  # fmt: skip


def remote_access(people: Population, rng: np.random.Generator, day: int) -> WorldRows:
    """The new pattern: a caller makes the victim pay round sums to mules from their own device.

    Callers work from 08:00 to 21:00 UTC.
    """
    customer = rng.integers(0, people.customers, 1)
    start = day * DAY_MS + 8 * HOUR_MS + int(rng.integers(0, 13 * HOUR_MS))
    n = int(rng.integers(4, 9))
    mules = people.of_category((5999,), online=True)
    return make_rows(
        _after(rng, start, n, 4 * MINUTE_MS),
        int(customer[0]),
        rng.choice(mules[: max(3, len(mules) // 20)], n),
        rng.choice([4900, 9900, 14900, 19900], n),
        device=people.laptop(customer)[0],
        ip=people.home_address(rng, customer)[0],
    )


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of fraud.

    Attributes:
        play: returns the transactions of one incident; None for genuine ones.
        rate: incidents per day and 10,000 customers.
        label_days: median delay of the labels, in days.
        early: share of the transactions that are reported within hours (median `EARLY_HOURS`), for
            example because the banking app warned the cardholder.
    """

    name: str
    play: Behaviour | None
    rate: float
    label_days: float
    early: float = 0.0


SCENARIOS: Final = (
    Scenario("genuine", None, 0.0, 0.0),
    Scenario("card_testing", card_testing, 0.25, 2.0, 0.15),
    Scenario("stolen_card_spree", stolen_card_spree, 5.0, 1.0, 0.3),
    Scenario("account_takeover", account_takeover, 5.0, 1.5, 0.3),
    Scenario("compromised_merchant", compromised_merchant, 0.25, 4.0, 0.15),
    Scenario("farm", farm, 0.2, 3.0, 0.15),
    Scenario("slow_abuse", slow_abuse, 1.0, 9.0, 0.05),
    Scenario("bust_out", bust_out, 0.6, 12.0),
    Scenario("remote_access", remote_access, 5.0, 3.0, 0.4),
)
NEW_PATTERN: Final = len(SCENARIOS) - 1
EARLY_HOURS: Final = 2.0
MAX_DAYS: Final = 22


def incidents(
    people: Population,
    seed: int,
    day: int,
    new_pattern_day: int | None,
    factor: float = 1.0,
    new_pattern_factor: float = 1.0,
) -> WorldRows:
    """Return all transactions of the incidents that start on a day, including those on later days.

    `factor` multiplies all rates; `new_pattern_factor` also multiplies that of the new pattern.
    """
    parts: list[WorldRows] = []
    for number, scenario in enumerate(SCENARIOS):
        new = number == NEW_PATTERN
        if scenario.play is None or (new and (new_pattern_day is None or day < new_pattern_day)):
            continue
        rng = np.random.default_rng([seed, 5, number, day])
        rate = scenario.rate * factor * (new_pattern_factor if new else 1.0)
        for _ in range(rng.poisson(rate * people.customers / 10_000)):
            rows = scenario.play(people, rng, day)
            parts.append(rows._replace(scenario=np.full(len(rows.time), number, np.int8)))
    nothing = make_rows(np.zeros(0), 0, 0, 0)
    return join([nothing, *parts])
