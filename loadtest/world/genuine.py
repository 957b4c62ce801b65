"""One day of honest purchases: habits, travel, subscriptions, holidays, and some odd behaviour.

The same population, day and seed always give the same rows.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from loadtest.world.places import CITIES, CITY_COUNTRY, HOURS, holiday_factor
from loadtest.world.population import Ints, Population
from loadtest.world.rows import ATM, ECOM, MOTO, POS, WorldRows, join, make_rows

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
TRIP_BLOCK = 30
_OFFSET = np.rint(np.array([city.longitude for city in CITIES]) / 15).astype(np.int64)
_WEIGHT = np.sqrt([city.weight for city in CITIES])  # small places draw many visitors


def away(people: Population, seed: int, day: int) -> Ints:
    """Return the city that each customer visits on a day, or -1 for those at home."""
    where = np.full(people.customers, -1, np.int64)
    for block in (day // TRIP_BLOCK - 1, day // TRIP_BLOCK):
        rng = np.random.default_rng([seed, 3, block + 1000])
        travels = rng.random(people.customers) < 0.14
        start = block * TRIP_BLOCK + rng.integers(0, TRIP_BLOCK, people.customers)
        length = rng.integers(2, 10, people.customers)
        city = rng.choice(len(CITIES), people.customers, p=_WEIGHT / _WEIGHT.sum())
        there = travels & (start <= day) & (day < start + length)
        where[there] = city[there]
    return where


def genuine_day(people: Population, seed: int, day: int) -> WorldRows:
    """Return the honest transactions of one day (in days since the epoch), unsorted."""
    rng = np.random.default_rng([seed, 4, day])
    date = datetime.fromtimestamp(day * 86_400, UTC)
    everything, online = holiday_factor(date.month, date.day)
    weekend = date.weekday() >= 5
    visits = away(people, seed, day)
    rate = people.activity * everything * (1.1 if weekend else 0.96)
    customer = np.repeat(np.arange(people.customers), rng.poisson(rate))
    daily = _purchases(people, rng, day, customer, visits[customer], online, weekend)
    return join([daily, _subscriptions(people, rng, day, date.day)])


def _purchases(
    people: Population,
    rng: np.random.Generator,
    day: int,
    customer: Ints,
    visit: Ints,
    online: float,
    weekend: bool,
) -> WorldRows:
    n = len(customer)
    abroad = visit >= 0
    city = np.where(abroad, visit, people.city[customer])
    draw = rng.random(n)
    cash = people.cash[customer] * np.where(abroad, 2.0, 1.0)
    ecom = np.minimum(people.online[customer] * online * np.where(abroad, 0.4, 1.0), 0.9)
    channel = np.where(draw < cash, ATM, np.where(draw < cash + ecom, ECOM, POS)).astype(np.int8)
    merchant = _merchants(people, rng, customer, channel, visit)
    hour = _hours(people, rng, customer, weekend)
    time = day * DAY_MS + (hour - _OFFSET[city]) % 24 * HOUR_MS + rng.integers(0, HOUR_MS, n)
    ordered_by_phone = (channel == ECOM) & (rng.random(n) < 0.01)
    channel[ordered_by_phone] = MOTO
    device, address = _access(people, rng, day, customer, channel, visit, hour, weekend)
    second = people.second_card[customer]
    return make_rows(
        time,
        np.where((second >= 0) & (rng.random(n) < 0.3), second, customer),
        merchant,
        _amounts(people, rng, customer, merchant, channel),
        channel=channel,
        device=device,
        ip=address,
        located=((channel == POS) | (channel == ATM)) & (rng.random(n) < 0.9),
    )


def _hours(people: Population, rng: np.random.Generator, customer: Ints, weekend: bool) -> Ints:
    table = HOURS[people.profile[customer]]
    hour = (rng.random(len(customer))[:, None] > table).sum(1)
    late: Ints = np.where(weekend & (hour < 9), hour + 3, hour)  # people shop later at the weekend
    return late


def _merchants(
    people: Population,
    rng: np.random.Generator,
    customer: Ints,
    channel: npt.NDArray[np.int8],
    visit: Ints,
) -> Ints:
    n = len(customer)
    slot = np.floor(np.log(rng.random(n)) / np.log(0.72)).astype(np.int64)
    merchant: Ints = people.favourite_shop[customer, slot % 12]
    remote, cash = channel == ECOM, channel == ATM
    merchant[remote] = people.favourite_online[customer[remote], slot[remote] % 6]
    merchant[cash] = people.favourite_atm[customer[cash], slot[cash] % 2]
    explores = rng.random(n) < 0.12
    new = explores & remote
    merchant[new] = people.shop_online(rng, int(new.sum()))
    new = (channel == POS) & (explores | (visit >= 0))
    city = np.where(visit >= 0, visit, people.city[customer])
    merchant[new] = people.shop_in(rng, city[new])
    new = cash & (visit >= 0)
    merchant[new] = people.atm_in(rng, city[new])
    return merchant


def _amounts(
    people: Population,
    rng: np.random.Generator,
    customer: Ints,
    merchant: Ints,
    channel: npt.NDArray[np.int8],
) -> npt.NDArray[np.float64]:
    n = len(customer)
    noise = people.merchant_deviation[merchant] * rng.standard_normal(n)
    major = np.exp(people.merchant_mean[merchant] + people.spend[customer] + noise)
    major *= np.where(rng.random(n) < 0.003, rng.uniform(6, 20, n), 1.0)  # big, but genuine
    style = rng.random(n)
    major = np.where(style < 0.3, np.floor(major) + 0.99, major)
    major = np.where(style > 0.85, np.maximum(np.rint(major), 1), major)
    major = np.where(channel == ATM, np.clip(np.rint(major / 10) * 10, 10, 600), major)
    major = np.where((channel == ECOM) & (style > 0.998), 0.0, major)  # account verification
    return np.clip(major, 0.0, 25_000.0) * 100


def _access(
    people: Population,
    rng: np.random.Generator,
    day: int,
    customer: Ints,
    channel: npt.NDArray[np.int8],
    visit: Ints,
    hour: Ints,
    weekend: bool,
) -> tuple[Ints, Ints]:
    """Return device and IP address of each purchase; families, offices and hotels share theirs."""
    n = len(customer)
    draw = rng.random(n)
    remote = channel == ECOM
    device = np.full(n, -1, np.int64)
    phone = people.phone(customer, day)
    home = np.where(draw < 0.6, phone, people.laptop(customer))
    home = np.where(draw > 0.88, people.tablet(customer), home)
    device = np.where(remote, np.where(visit >= 0, phone, home), device)
    device = np.where((channel == POS) & (draw < 0.25), phone, device)
    where = np.where(visit >= 0, CITY_COUNTRY[visit], people.country[customer])
    draw = rng.random(n)
    at_work = (people.employer[customer] >= 0) & (hour >= 9) & (hour < 17) & (not weekend)
    address = people.home_address(rng, customer)
    address = np.where(at_work & (draw < 0.5), people.office_address(customer), address)
    hotel = people.hotel_address(rng, np.maximum(visit, 0))
    address = np.where(visit >= 0, hotel, address)
    mobile = people.mobile_address(rng, where.astype(np.int8))
    address = np.where(draw > 0.78, mobile, address)
    return device, np.where(remote, address, -1)


def _subscriptions(people: Population, rng: np.random.Generator, day: int, date: int) -> WorldRows:
    customer, which = np.nonzero(people.subscription_day == date)
    time = day * DAY_MS + 2 * HOUR_MS + rng.integers(0, 4 * HOUR_MS, len(customer))
    return make_rows(
        time,
        customer,
        people.subscription[customer, which],
        people.subscription_amount[customer, which],
    )
