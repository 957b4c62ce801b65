"""Amounts: converted to minor units of the base currency, and formatted for people.

Decimal places: ISO 4217, list one (amendment 176); every currency not named there has two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError

NO_DECIMALS: Final = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG",
     "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF")
)  # fmt: skip
THREE_DECIMALS: Final = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])


def decimals(code: str) -> int:
    """Return how many decimal places a currency has."""
    return 0 if code in NO_DECIMALS else 3 if code in THREE_DECIMALS else 2


def amount(minor: int, code: str) -> str:
    """Return an amount in major units with its currency, for people.

    >>> amount(123456, "EUR"), amount(-1500, "JPY"), amount(1234567, "KWD")
    ('1,234.56 EUR', '-1,500 JPY', '1,234.567 KWD')
    """
    places = decimals(code)
    whole, part = divmod(abs(minor), 10**places)
    fraction = f".{part:0{places}d}" if places else ""
    return f"{'-' if minor < 0 else ''}{whole:,}{fraction} {code}"


def is_code(text: str) -> bool:
    """Whether the text has the form of an ISO 4217 code."""
    return len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()


@dataclass(frozen=True)
class CurrencyTable:
    """Rates: base-currency major units for one major unit of the other currency.

    >>> CurrencyTable("EUR", {"JPY": 0.006}).to_base(1000, "JPY")
    600

    Raises:
        ConfigurationError: a code or a rate is not possible.
    """

    base: str = "EUR"
    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check codes and rates."""
        wrong = [code for code in (self.base, *self.rates) if not is_code(code)]
        wrong += [f"{code}={rate}" for code, rate in self.rates.items() if not 0 < rate < 1e9]
        if wrong:
            raise ConfigurationError(
                f"currency table: {', '.join(wrong)} is not a three-letter code with a rate in "
                '(0, 1e9): write FRAUD_CURRENCY_RATES={"USD": 0.92}'
            )

    @cached_property
    def scales(self) -> dict[str, float]:
        """Factor from minor units of each known currency to minor units of the base."""
        places = decimals(self.base)
        scales = {
            code: rate * 10.0 ** (places - decimals(code)) for code, rate in self.rates.items()
        }
        return scales | {self.base: 1.0}

    @cached_property
    def packed(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Codes as 24-bit numbers, base first, and their scales, as the kernels take them."""
        codes = sorted(self.scales, key=lambda code: code != self.base)
        numbers = [int.from_bytes(code.encode()) for code in codes]
        return np.array(numbers, np.int64), np.array([self.scales[code] for code in codes])

    def to_base(self, amount: int, code: str) -> int:
        """Return the amount in minor units of the base, half to even.

        Raises:
            KeyError: the currency has no rate.
        """
        scale = self.scales[code]
        return amount if scale == 1.0 else round(amount * scale)
