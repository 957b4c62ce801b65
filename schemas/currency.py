"""Currencies, and amounts: converted to minor units of the base currency, formatted for people.

Codes and decimal places: ISO 4217, list one (amendment 176) without metals, bonds and test codes,
and of list three what was withdrawn since 2010, because history is replayed as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from schemas.errors import ConfigurationError

if (
    TYPE_CHECKING
):  # settings are read by commands that need no numpy, which takes a sixth of a second
    import numpy as np
    import numpy.typing as npt

_CODES: Final = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP
BYN BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB
EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD
JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP
MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR
RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND
TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XOF XPF
YER ZAR ZMW ZWG ANG BYR CUC EEK HRK LTL LVL MRO SLL STD VEF ZMK ZWL
"""
CURRENCIES: Final = frozenset(_CODES.split())
_NO_DECIMALS: Final = "BIF BYR CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_PLACES: Final = {
    **dict.fromkeys(_NO_DECIMALS.split(), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


def decimals(code: str) -> int:
    """Return how many decimal places a currency has."""
    return _PLACES.get(code, 2)


def amount(minor: int, code: str) -> str:
    """Return an amount in major units with its currency, for people.

    >>> amount(123456, "EUR"), amount(-1500, "JPY"), amount(1234567, "KWD")
    ('1,234.56 EUR', '-1,500 JPY', '1,234.567 KWD')
    """
    places = decimals(code)
    whole, part = divmod(abs(minor), 10**places)
    fraction = f".{part:0{places}d}" if places else ""
    return f"{'-' if minor < 0 else ''}{whole:,}{fraction} {code}"


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
        wrong = [code for code in (self.base, *self.rates) if code not in CURRENCIES]
        wrong += [f"{code}={rate}" for code, rate in self.rates.items() if not 0 < rate < 1e9]
        if wrong:
            raise ConfigurationError(
                f"currency table: {', '.join(wrong)} is not an ISO 4217 code with a rate in "
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
        import numpy as np

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
