"""The population of the world: customers, merchants, devices and IP addresses.

Everything is an array indexed by customer, merchant, household and so on; `ids` holds the texts at
the same indices.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.world.places import (
    ATM_MCC,
    CATEGORIES,
    CITIES,
    CITY_COUNTRY,
    COUNTRIES,
    HOURS,
    RECURRING_MCCS,
)

Ints = npt.NDArray[np.int64]
DEVICES_EACH: Final = 8
"""Device numbers per customer: six generations of phones, a spare number, and a laptop."""
FRAUD_POOL: Final = 1 << 16
ADDRESSES_EACH: Final = 4
HOTEL_ADDRESSES: Final = 40


def numbered(letter: str, count: int, width: int = 8) -> pa.StringArray:
    """Return ids "c00000000", "c00000001" …"""
    digits = pc.utf8_lpad(pa.array(np.arange(count)).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(letter, digits, "")


class Population:
    """`customers` people and everything around them; the same seed gives the same people."""

    def __init__(self, customers: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        self.customers = n = customers
        self._merchants(rng, max(300, n // 8))
        self.household = np.cumsum(rng.random(n) < 0.55) - 1
        self.household -= self.household[0]
        homes = int(self.household[-1]) + 1
        weight = np.array([city.weight for city in CITIES])
        home_city = rng.choice(len(CITIES), homes, p=weight / weight.sum())
        self.homes = homes
        self.city = home_city[self.household]
        self.country = CITY_COUNTRY[self.city]
        self.activity = rng.gamma(2.2, 0.9, n) + 0.05
        self.spend = rng.normal(0.0, 0.35, n)
        self.online = rng.beta(2.0, 5.0, n)
        self.cash = rng.beta(1.2, 16.0, n)
        self.profile = rng.choice(len(HOURS), n, p=[0.45, 0.2, 0.27, 0.08])
        self.employer = np.where(rng.random(n) < 0.5, rng.integers(0, n // 40 + 1, n), -1)
        self.phone_life = rng.integers(250, 1100, n)
        self.phone_phase = rng.integers(0, 6 * 1100, n)
        second = rng.random(n) < 0.15
        self.second_card = np.where(second, n + np.cumsum(second) - 1, -1)
        self.card_owner = np.concatenate([np.arange(n), np.flatnonzero(second)])
        self.favourite_shop = self._pick(rng, np.repeat(self.city[:, None], 12, 1))
        self.favourite_online = self._pick(rng, np.full((n, 6), 2 * len(CITIES)))
        self.favourite_atm = self._pick(rng, np.repeat(self.city[:, None], 2, 1) + len(CITIES))
        self.subscription = rng.choice(self.of_category(RECURRING_MCCS), (n, 2))
        self.subscription_day = rng.integers(1, 29, (n, 2))
        self.subscription_day[rng.random((n, 2)) < (0.2, 0.5)] = 0
        self.subscription_amount = rng.integers(4, 60, (n, 2)) * 100 + 99

    def _merchants(self, rng: np.random.Generator, count: int) -> None:
        places = len(CITIES)
        weight = np.array([category.weight for category in CATEGORIES])
        category = rng.choice(len(CATEGORIES), count, p=weight / weight.sum())
        category[: 2 * len(CATEGORIES)] = np.arange(2 * len(CATEGORIES)) % len(CATEGORIES)
        atm = next(i for i, each in enumerate(CATEGORIES) if each.mcc == ATM_MCC)
        first = 2 * len(CATEGORIES)  # from here on one shop and one cash machine in every city
        category[first : first + places] = 0
        category[first + places : first + 2 * places] = atm
        city_weight = np.array([city.weight for city in CITIES])
        city = rng.choice(places, count, p=city_weight / city_weight.sum())
        city[first : first + 2 * places] = np.arange(2 * places) % places
        self.mcc = np.array([each.mcc for each in CATEGORIES], np.int32)[category]
        online = rng.random(count) < np.array([each.online for each in CATEGORIES])[category]
        online[first : first + 2 * places] = False
        self.merchant_online = online
        self.merchant_city = city
        self.merchant_country = CITY_COUNTRY[city]
        centre = np.array([(each.latitude, each.longitude) for each in CITIES])[city]
        self.merchant_position = centre + rng.normal(0.0, 0.05, (count, 2))
        mean = np.array([each.mean for each in CATEGORIES])[category]
        self.merchant_mean = mean + rng.normal(0.0, 0.3, count)
        self.merchant_deviation = np.array([each.deviation for each in CATEGORIES])[category]
        self.merchants = count
        group = np.where(online, 2 * places, np.where(self.mcc == ATM_MCC, places + city, city))
        self._sorted = np.argsort(group, kind="stable")
        popularity = rng.pareto(1.3, count) + 0.2
        self._cumulative = np.concatenate([[0.0], np.cumsum(popularity[self._sorted])])
        self._bounds = np.searchsorted(group[self._sorted], np.arange(2 * places + 2))

    def _pick(self, rng: np.random.Generator, group: Ints) -> Ints:
        """Draw a merchant by popularity from each group.

        Groups are the shops of each city, then the cash machines of each city, then online shops.
        """
        low = self._cumulative[self._bounds[group]]
        high = self._cumulative[self._bounds[group + 1]]
        drawn = low + rng.random(group.shape) * (high - low)
        place = np.searchsorted(self._cumulative, drawn, side="right") - 1
        place = np.clip(place, self._bounds[group], self._bounds[group + 1] - 1)
        chosen: Ints = self._sorted[place]
        return chosen

    def shop_in(self, rng: np.random.Generator, city: Ints) -> Ints:
        """Draw a shop in each city."""
        return self._pick(rng, city)

    def atm_in(self, rng: np.random.Generator, city: Ints) -> Ints:
        """Draw a cash machine in each city."""
        return self._pick(rng, city + len(CITIES))

    def shop_online(self, rng: np.random.Generator, count: int) -> Ints:
        """Draw online shops."""
        return self._pick(rng, np.full(count, 2 * len(CITIES)))

    def of_category(self, mccs: tuple[int, ...], *, online: bool | None = None) -> Ints:
        """Return the merchants of some categories, if possible only those (not) `online`."""
        chosen = np.isin(self.mcc, mccs)
        if online is not None and (chosen & (self.merchant_online == online)).any():
            chosen &= self.merchant_online == online
        found: Ints = np.flatnonzero(chosen)
        return found

    def phone(self, customer: Ints, day: int) -> Ints:
        """Return the phone that each customer carries on a day, which lasts 1 to 3 years."""
        generation = (day + self.phone_phase[customer]) // self.phone_life[customer] % 6
        device: Ints = customer * DEVICES_EACH + generation
        return device

    def laptop(self, customer: Ints) -> Ints:
        """Return the laptop of each customer."""
        return customer * DEVICES_EACH + DEVICES_EACH - 1

    def tablet(self, customer: Ints) -> Ints:
        """Return the tablet that each customer's household shares."""
        device: Ints = self.customers * DEVICES_EACH + self.household[customer]
        return device

    def fraud_device(self, rng: np.random.Generator, count: int) -> Ints:
        """Draw devices of fraudsters."""
        return self.customers * DEVICES_EACH + self.homes + rng.integers(0, FRAUD_POOL, count)

    @property
    def _mobile(self) -> int:
        return self.homes * ADDRESSES_EACH

    @property
    def _office(self) -> int:
        return self._mobile + 20 * len(COUNTRIES)

    @property
    def _hotel(self) -> int:
        return self._office + self.customers // 40 + 1

    @property
    def _hosting(self) -> int:
        return self._hotel + HOTEL_ADDRESSES * len(CITIES)

    def home_address(self, rng: np.random.Generator, customer: Ints) -> Ints:
        """Return IP addresses of the customers' homes; IPv6 addresses change all the time."""
        home = self.household[customer]
        changes = np.where(home % 10 < 3, rng.integers(0, ADDRESSES_EACH, len(home)), 0)
        address: Ints = home * ADDRESSES_EACH + changes
        return address

    def mobile_address(self, rng: np.random.Generator, country: npt.NDArray[np.int8]) -> Ints:
        """Draw IP addresses of mobile carriers, which many customers share."""
        return self._mobile + country.astype(np.int64) * 20 + rng.integers(0, 20, len(country))

    def office_address(self, customer: Ints) -> Ints:
        """Return the IP address that all employees of a customer's employer share."""
        address: Ints = self._office + np.maximum(self.employer[customer], 0)
        return address

    def hotel_address(self, rng: np.random.Generator, city: Ints) -> Ints:
        """Draw IP addresses of hotels, which travellers share."""
        return self._hotel + city * HOTEL_ADDRESSES + rng.integers(0, HOTEL_ADDRESSES, len(city))

    def hosting_address(self, rng: np.random.Generator, count: int) -> Ints:
        """Draw IP addresses of fraudsters, in any country."""
        return self._hosting + rng.integers(0, FRAUD_POOL, count)

    @cached_property
    def address_country(self) -> npt.NDArray[np.int8]:
        """Country (position in COUNTRIES) of each IP address."""
        home_country = np.zeros(self.homes, np.int8)
        home_country[self.household] = self.country
        rng = np.random.default_rng([2, self.customers])
        return np.concatenate(
            [
                np.repeat(home_country, ADDRESSES_EACH),
                np.repeat(np.arange(len(COUNTRIES), dtype=np.int8), 20),
                rng.choice(CITY_COUNTRY[:21], self.customers // 40 + 1),
                np.repeat(CITY_COUNTRY, HOTEL_ADDRESSES),
                rng.integers(0, len(COUNTRIES), FRAUD_POOL).astype(np.int8),
            ]
        )

    @cached_property
    def ids(self) -> dict[str, Any]:
        """Ids of cards, customers, merchants, devices and IP addresses, as Arrow string arrays."""
        return {
            "card_id": numbered("c", len(self.card_owner)),
            "customer_id": numbered("u", self.customers),
            "merchant_id": numbered("m", self.merchants, 6),
            "device_id": numbered("d", self.customers * DEVICES_EACH + self.homes + FRAUD_POOL, 9),
            "ip": self._addresses(),
        }

    def _addresses(self) -> pa.StringArray:
        number = np.arange(self._hosting + FRAUD_POOL)
        home = number // ADDRESSES_EACH
        v6 = (number < self._mobile) & (home % 10 < 3)
        # Nobody's home is in 11.0.0.0/8 or 2001:db8::/32.
        parts = [pa.array(number >> shift & 255).cast(pa.string()) for shift in (16, 8, 0)]
        v4 = pc.binary_join_element_wise("11", *parts, ".")
        wide = [f"2001:db8:{h >> 16:x}:{h & 65535:x}::{1 + k}" for h, k in zip(
            home[v6].tolist(), (number[v6] % ADDRESSES_EACH).tolist(), strict=True)]  # fmt: skip
        return pc.replace_with_mask(v4, pa.array(v6), pa.array(wide, pa.string()))
