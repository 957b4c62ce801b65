"""Card traffic of now, with frauds that a model can see, and their labels."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from tests.support.pipeline import Pipeline

COUNTRIES = ("DE", "FR", "NL", "IT", "ES")
FAR_AWAY = ("US", "BR", "NG", "TH")
CHANNELS = ("POS", "ECOM", "ATM", "MOTO")


class World:
    """Transactions one after the other; `frauds` says which are fraud, by transaction_id."""

    def __init__(self, *, cards: int = 400, seed: int = 7, fraud: float = 0.03) -> None:
        self.draw = np.random.default_rng(seed)
        self.frauds: set[str] = set()
        self._cards, self._share, self._number = cards, fraud, 0

    def next(self, count: int) -> list[dict[str, Any]]:
        """Return transactions of this moment."""
        return [self._one() for _ in range(count)]

    def _one(self) -> dict[str, Any]:
        draw, self._number = self.draw, self._number + 1
        fraud = draw.random() < self._share
        card = int(draw.integers(self._cards))
        number = f"t-{self._number:06d}"
        if fraud:
            self.frauds.add(number)
        home = COUNTRIES[card % len(COUNTRIES)]
        amount = draw.uniform(620, 1_450) if fraud else min(draw.lognormal(3.2, 0.8), 420)
        return {
            "transaction_id": number,
            "event_time": time.time_ns() // 1_000_000,
            "card_id": f"card-{card:05d}",
            "customer_id": f"customer-{card // 2:05d}",
            "merchant_id": f"shop-{int(draw.zipf(1.4)) % 200:03d}",
            "amount": int(amount * 100),
            "currency": "EUR",
            "mcc": int(draw.choice((5411, 5812, 5732, 4829))),
            "channel": "ECOM" if fraud else CHANNELS[int(draw.integers(4))],
            "device_id": f"device-{int(draw.integers(10_000)) if fraud else card:05d}",
            "ip": f"192.0.2.{int(draw.integers(250))}" if fraud else f"198.51.100.{card % 250}",
            "ip_country": str(draw.choice(FAR_AWAY)) if fraud else home,
            "card_country": home,
            "merchant_country": str(draw.choice(FAR_AWAY)) if fraud else home,
            "latitude": None,
            "longitude": None,
            "attributes": {},
        }


def label(record: dict[str, Any], fraud: bool) -> dict[str, Any]:
    """Return the label of a transaction, known now."""
    return {
        "transaction_id": record["transaction_id"],
        "card_id": record["card_id"],
        "label": "FRAUD" if fraud else "GENUINE",
        "source": "CHARGEBACK" if fraud else "CUSTOMER",
        "transaction_time": record["event_time"],
        "label_time": max(time.time_ns() // 1_000_000, record["event_time"]),
    }


class Traffic:
    """Context manager: sends `rate` transactions a second, and labels of some, until left.

    `flows` is set while it sends.
    """

    def __init__(self, pipeline: Pipeline, world: World, *, rate: int = 40) -> None:
        self._pipeline, self._world, self._rate = pipeline, world, rate
        self.flows = threading.Event()
        self.flows.set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")
        self._failed: BaseException | None = None

    def __enter__(self) -> Traffic:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; raises what went wrong meanwhile."""
        self._stop.set()
        self.flows.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.25):
                self.flows.wait()
                records = self._world.next(max(self._rate // 4, 1))
                self._pipeline.send_transactions(records)
                for record in records:
                    fraud = record["transaction_id"] in self._world.frauds
                    if fraud or self._world.draw.random() < 0.2:
                        self._pipeline.send_label(label(record, fraud))
        except BaseException as error:
            self._failed = error
            raise
