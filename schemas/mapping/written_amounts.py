"""Amounts as people write them: with currency signs, separators, brackets and signs behind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal

from schemas.currency import CURRENCIES

Mark = Literal[".", ","]
_PARTS: Final = re.compile(r"(?P<before>\D*?)(?P<digits>[.,]?\d[\d.,' ]*)(?P<after>\D*)")
_NO_DECIMALS: Final = re.compile(r"(?<=\d)[.,]-{1,2}(?!\d)")
_SPACED: Final = re.compile(r"(\d{1,3}(?P<gap>[ '])\d{3}(?:(?P=gap)\d{3})*)(?:([.,])(\d*))?")
_ALIKE: Final = str.maketrans("−–’\u00a0\u2009\u202f", "--'   ")
_DOLLARS: Final = (
    "USD AUD BBD BMD BND BSD BZD CAD FJD GYD HKD JMD KYD LRD NAD NZD SBD SGD SRD TTD TWD XCD ARS "
    "CLP COP CUP DOP MXN NIO UYU"
)
_SIGNS: Final = {
    sign: frozenset(codes.split()) for sign, codes in {
        "$": _DOLLARS,
        "€": "EUR", "£": "GBP EGP FKP GIP LBP SHP SSP SYP", "¥": "JPY CNY", "₹": "INR", "₽": "RUB",
        "₺": "TRY", "TL": "TRY", "₩": "KRW KPW", "฿": "THB", "₫": "VND", "₪": "ILS", "₦": "NGN",
        "₴": "UAH", "₱": "PHP", "₸": "KZT", "US$": "USD", "A$": "AUD", "AU$": "AUD", "C$": "CAD",
        "CA$": "CAD", "NZ$": "NZD", "HK$": "HKD", "S$": "SGD", "NT$": "TWD", "MX$": "MXN",
        "R$": "BRL", "R": "ZAR", "RM": "MYR", "RP": "IDR", "RS": "INR LKR MUR NPR PKR SCR",
        "FR": "CHF", "SFR": "CHF", "KR": "DKK ISK NOK SEK", "KČ": "CZK", "ZŁ": "PLN", "FT": "HUF",
        "LEI": "RON MDL", "S/": "PEN", "ЛВ": "BGN", "DIN": "RSD", "KN": "HRK",
    }.items()
}  # fmt: skip
"""What stands beside an amount, in capital letters, and the currencies that it may mean."""
_WITH_POINT: Final = frozenset(("RS", "FR", "SFR"))
"""Abbreviations that may be written with a point."""


class OtherCurrencyError(ValueError):
    """An amount names another currency than its row does."""


def decimal_mark(texts: Iterable[str]) -> Mark | None:
    """Return the decimal mark that the texts of a column leave no doubt about, if they do.

    >>> decimal_mark(["1.000,50", "1.000"]), decimal_mark(["1,234"])
    (',', None)
    """
    parts = [_PARTS.fullmatch(_plain(text)) for text in texts]
    found = {mark for part in parts if part and (mark := _mark(part["digits"])) is not None}
    return found.pop() if len(found) == 1 else None


def parse_amount(text: str, mark: Mark | None = None, currency: str = "") -> Decimal | None:
    """Return the number that people wrote as an amount, or None if it can't be told.

    Currency signs and codes, separators of thousands, brackets, CR, DR and a minus sign behind are
    understood. Without a decimal mark, "1,234" may be either number and is neither.

    >>> parse_amount("$1,234.50"), parse_amount("(12.00)"), parse_amount("1,234")
    (Decimal('1234.50'), Decimal('-12.00'), None)
    >>> parse_amount("1.000,50 €"), parse_amount("1,234", ","), parse_amount("12.00 CR")
    (Decimal('1000.50'), Decimal('1.234'), Decimal('-12.00'))
    >>> parse_amount("12.5%"), parse_amount("12 34")
    (None, None)

    Raises:
        OtherCurrencyError: it names a currency that is not `currency`.
    """
    part = _PARTS.fullmatch(_plain(text))
    if part is None:
        return None
    before, digits, after = part["before"], part["digits"], part["after"]
    if digits[0] in ".," and before[-1:].isalpha():  # Rs.500 is 500, and XYZ.50 may be either
        if before.split()[-1].upper() not in _WITH_POINT:
            return None
        before, digits = before + digits[0], digits[1:]
    negative = _sign(before, after, currency)
    number = _number(digits.strip(), mark)
    return None if number is None or negative is None else -number if negative else number


def _plain(text: str) -> str:
    """Return a text with the usual signs, without the marks of "no decimals" and of a text."""
    return _NO_DECIMALS.sub("", text.strip().translate(_ALIKE)).removeprefix("'").strip()


def _sign(before: str, after: str, currency: str) -> bool | None:
    """Return whether what is around the digits makes them negative, None for what is unknown."""
    around = f"{before} {after}"
    signs = [each for each in around if each in "-+()"]
    words = [word.rstrip(".").upper() for word in re.sub(r"[-+()]", " ", around).split()]
    sides = [word for word in words if word in ("CR", "DR")]
    if len(sides) + len(signs) > 1 and not (signs == ["(", ")"] and not sides):
        return None
    if signs in (["("], [")"]):
        return None
    if "(" in signs and ("(" in after or ")" in before):
        return None
    for word in words:
        if word not in sides and not _names(word, currency):
            return None
    return bool(signs and signs != ["+"]) or sides == ["CR"]


def _names(word: str, currency: str) -> bool:
    """Return whether a word is a currency, which must be the row's; `currency` "" is any."""
    codes = frozenset((word,)) if word in CURRENCIES else _SIGNS.get(word, frozenset())
    if codes and currency and currency not in codes:
        raise OtherCurrencyError(word)
    return bool(codes)


def _mark(digits: str) -> Mark | None:
    digits = digits.strip()
    point, comma = digits.rfind("."), digits.rfind(",")
    if min(point, comma) >= 0:
        return "." if point > comma else ","
    spaced = _SPACED.fullmatch(digits)
    if spaced and spaced[3]:
        return "," if spaced[3] == "," else "."
    if (comma >= 0 and digits.count(",") == 1 and not re.search(r"\d,\d{3}$", digits)) or (
        point >= 0 and digits.count(".") > 1
    ):
        return ","
    return None


def _number(digits: str, mark: Mark | None) -> Decimal | None:
    spaced = _SPACED.fullmatch(digits)
    if spaced is not None:
        whole, part = re.sub(r"\D", "", spaced[1]), spaced[4]
        return None if mark and spaced[3] not in (None, mark) else Decimal(f"{whole}.{part or 0}")
    if re.search(r"[ ']", digits):
        return None
    if mark is None:
        mark = _mark(digits)
        if mark is None and digits.count(",") == 1:
            return None
    mark = mark or "."
    thousands = "," if mark == "." else "."
    whole, _, part = digits.partition(mark)
    groups = whole.split(thousands)
    if len(groups) > 1 and (not 1 <= len(groups[0]) <= 3 or any(len(g) != 3 for g in groups[1:])):
        return None
    if thousands in part or mark in part:
        return None
    return Decimal(f"{''.join(groups) or 0}.{part or 0}")
