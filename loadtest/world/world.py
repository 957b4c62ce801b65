"""The generated world, day by day, as tables of transactions with their labels.

The same settings, seed and day always give the same rows, whichever days came before.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loadtest.world import fraud
from loadtest.world.behaviour_drift import apply_drift
from loadtest.world.genuine import DAY_MS, HOUR_MS, genuine_day
from loadtest.world.places import COUNTRIES
from loadtest.world.population import Population
from loadtest.world.rows import WorldRows, join
from schemas.columns import CHANNELS

CURRENCY: Final = "EUR"
REPORTED_SHARE: Final = 0.99
"""Share of frauds that are ever reported.

No calibrated score can exceed it. Were it below 0.95, the default threshold would block nothing.
"""
WAVE_FACTOR: Final = 8.0
MAX_LABEL_DAYS: Final = 45.0
TRANSACTIONS_A_DAY: Final = 10_000_000
EPOCH: Final = date(1970, 1, 1)


def day_number(day: date) -> int:
    """Return days since the epoch."""
    return (day - EPOCH).days


class World:
    """`customers` people and the purchases made by them and by fraudsters.

    Args:
        new_pattern_day: day (since the epoch) on which a new kind of fraud appears.
        new_pattern_factor: multiplies the incidents of the new kind of fraud.
        drift_day: day from which honest customers change their habits.
        fraud_factor: multiplies the incidents of fraud.
        wave_every: every so many days, WAVE_FACTOR multiplies the incidents again.

    >>> World(300, seed=1).day(20_000).num_rows == World(300, seed=1).day(20_000).num_rows
    True
    """

    def __init__(
        self,
        customers: int,
        seed: int,
        *,
        new_pattern_day: int | None = None,
        new_pattern_factor: float = 1.0,
        drift_day: int | None = None,
        fraud_factor: float = 1.0,
        wave_every: int | None = None,
    ) -> None:
        self.people = Population(customers, seed)
        self.seed = seed
        self.new_pattern_day = new_pattern_day
        self.new_pattern_factor = new_pattern_factor
        self.drift_day = drift_day
        self.fraud_factor = fraud_factor
        self.wave_every = wave_every
        self._incidents: dict[int, WorldRows] = {}

    def day(self, day: int) -> pa.Table:
        """Return one day's transactions in event order.

        The columns are those of `schemas.mapping`, `fraud` (the truth) and `scenario`. `label` says
        whether the transaction is reported as fraud, and `label_time` when. Times are in ms UTC,
        amounts in minor units of EUR.
        """
        rows = self._rows(day)
        rows = rows.take(np.argsort(rows.time, kind="stable"))
        return self._table(rows, day)

    def days(self, first: int, count: int | None = None) -> Iterator[pa.Table]:
        """Yield `count` days one after the other; without end if `count` is None."""
        day = first
        while count is None or day < first + count:
            yield self.day(day)
            day += 1

    def _rows(self, day: int) -> WorldRows:
        honest = genuine_day(self.people, self.seed, day)
        if self.drift_day is not None and day >= self.drift_day:
            honest = apply_drift(self.people, self.seed, day, day - self.drift_day, honest)
        parts = [honest]
        for start in range(day - fraud.MAX_DAYS, day + 1):
            rows = self._incidents.get(start)
            if rows is None:
                rows = fraud.incidents(
                    self.people,
                    self.seed,
                    start,
                    self.new_pattern_day,
                    self._factor(start),
                    self.new_pattern_factor,
                )
                self._incidents[start] = rows
            parts.append(rows.take(rows.time // DAY_MS == day))
        for old in [key for key in self._incidents if key < day - fraud.MAX_DAYS]:
            del self._incidents[old]
        return join(parts)

    def _factor(self, day: int) -> float:
        wave = self.wave_every is not None and day % self.wave_every == 0
        return self.fraud_factor * (WAVE_FACTOR if wave else 1.0)

    def _table(self, rows: WorldRows, day: int) -> pa.Table:
        people, ids = self.people, self.people.ids
        n = len(rows.time)
        owner = people.card_owner[rows.card]
        reported, label_time = self._labels(rows, day)
        numbers = pa.array(day * TRANSACTIONS_A_DAY + np.arange(n)).cast(pa.string())
        position = people.merchant_position[rows.merchant]
        address = np.maximum(rows.ip, 0)
        return pa.table(
            {
                "transaction_id": pa.DictionaryArray.from_arrays(
                    pa.array(np.arange(n, dtype=np.int32)), numbers
                ),
                "event_time": rows.time,
                "card_id": _text(rows.card, ids["card_id"]),
                "customer_id": _text(owner, ids["customer_id"]),
                "merchant_id": _text(rows.merchant, ids["merchant_id"]),
                "amount": rows.amount,
                "currency": _text(np.zeros(n, np.int64), pa.array([CURRENCY])),
                "mcc": people.mcc[rows.merchant],
                "channel": _text(rows.channel, pa.array(CHANNELS)),
                "device_id": _text(rows.device, ids["device_id"]),
                "ip": _text(rows.ip, ids["ip"]),
                "ip_country": _text(
                    np.where(rows.ip >= 0, people.address_country[address], -1), self._countries
                ),
                "card_country": _text(people.country[owner], self._countries),
                "merchant_country": _text(people.merchant_country[rows.merchant], self._countries),
                "latitude": pa.array(position[:, 0], mask=~rows.located),
                "longitude": pa.array(position[:, 1], mask=~rows.located),
                "fraud": rows.scenario > 0,
                "scenario": _text(rows.scenario, pa.array([each.name for each in fraud.SCENARIOS])),
                "label": reported,
                "label_time": label_time,
            }
        )

    @cached_property
    def _countries(self) -> pa.StringArray:
        return pa.array(COUNTRIES)

    def _labels(
        self, rows: WorldRows, day: int
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Return which rows are reported as fraud, and when; a few reports are of honest rows."""
        rng = np.random.default_rng([self.seed, 6, day])
        n = len(rows.time)
        median = np.array([each.label_days for each in fraud.SCENARIOS])[rows.scenario]
        days = np.clip(median * rng.lognormal(0.0, 0.7, n), 0.02, MAX_LABEL_DAYS)
        friendly = (rows.scenario == 0) & (rng.random(n) < 0.0001)
        reported = ((rows.scenario > 0) & (rng.random(n) < REPORTED_SHARE)) | friendly
        early = rng.random(n) < np.array([each.early for each in fraud.SCENARIOS])[rows.scenario]
        hours = np.clip(fraud.EARLY_HOURS * rng.lognormal(0.0, 0.7, n), 0.1, 24.0)
        days = np.where(early, hours * HOUR_MS / DAY_MS, days)
        days = np.where(rows.scenario > 0, days, 30.0)
        return reported, rows.time + (days * DAY_MS).astype(np.int64)


def _text(codes: Any, values: pa.Array) -> pa.DictionaryArray:
    """Return the values at some positions; null at -1."""
    narrow = np.asarray(codes, np.int32)
    missing = narrow < 0
    return pa.DictionaryArray.from_arrays(
        pa.array(narrow, mask=missing if missing.any() else None), values
    )


def parse_day(text: str) -> int:
    """Return the day number of "2025-01-31".

    Raises:
        ValueError: `text` is not such a date.
    """
    return day_number(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date())


def date_of(day: int) -> str:
    """Return the date of a day number, like "2025-01-31"."""
    return (EPOCH + timedelta(days=day)).isoformat()
