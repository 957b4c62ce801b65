"""What one API key may use in a second: transactions, bytes of bodies, and processing time.

A count alone would not do: a refused body of 64 KB costs a hundred times as much as a transaction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.web.problems import Problem


class Bucket:
    """Token bucket: `rate` tokens per second, and as many at once after a quiet second."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._tokens, self._at = rate, rate, now

    def _fill(self, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._at) * self._rate, self._rate)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token and return 0; if there is none, return the seconds until the next one."""
        self._fill(now)
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    def reserve(self, now: float, amount: float = 1.0) -> float:
        """Take tokens, on credit if necessary; return the seconds to wait before using them."""
        self._fill(now)
        self._tokens -= amount
        return self.owed(now)

    def owed(self, now: float) -> float:
        """Return the seconds until what was taken on credit is paid back."""
        self._fill(now)
        return max(-self._tokens / self._rate, 0.0)


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits of each key, all per second."""

    transactions: float
    bytes: float
    seconds: float


class Allowance:
    """What is left to one key. Bytes and time are known only afterwards, so they go on credit."""

    def __init__(self, rates: Rates, now: float) -> None:
        self._count = Bucket(rates.transactions, now)
        self._credits = {
            "FRAUD_API_RATE_KB": Bucket(rates.bytes, now),
            "FRAUD_API_RATE_MS": Bucket(rates.seconds, now),
        }
        self._bytes, self._seconds = self._credits.values()

    def admit(self, now: float) -> None:
        """Count one transaction or look-up.

        Raises:
            Problem: the key has exceeded one of its rates.
        """
        waits = {name: bucket.owed(now) for name, bucket in self._credits.items()}
        if not any(waits.values()):
            waits = {"FRAUD_API_RATE": self._count.take(now)}
        setting = max(waits, key=lambda name: waits[name])
        if waits[setting] > 0:
            raise Problem(
                "rate-limit",
                f"this key has exceeded its rate: wait, or ask for a higher {setting}",
                headers={"Retry-After": str(math.ceil(waits[setting]))},
            )

    def spend(self, now: float, *, size: int, seconds: float) -> None:
        """Book the bytes of a body and the processing time that it took."""
        self._bytes.reserve(now, size)
        self._seconds.reserve(now, seconds)

    def pace(self, now: float) -> float:
        """Count one transaction of a batch; return the seconds to wait before the next one."""
        owed = max(bucket.owed(now) for bucket in self._credits.values())
        return max(self._count.reserve(now), owed)
