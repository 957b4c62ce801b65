"""Amounts for people, in every currency's own decimals."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.currency import CURRENCIES, amount, decimals

PLACES = [
    ("EUR", 2), ("USD", 2), ("JPY", 0), ("KRW", 0), ("CLP", 0), ("KWD", 3), ("BHD", 3), ("CLF", 4),
    ("UYW", 4), ("MRU", 2), ("HUF", 2), ("XAF", 0),
]  # fmt: skip


@pytest.mark.parametrize(("code", "places"), PLACES)
def test_decimal_places_are_those_of_iso_4217(code: str, places: int) -> None:
    assert decimals(code) == places
    assert code in CURRENCIES


def test_what_is_not_money_is_not_a_currency() -> None:
    assert not CURRENCIES & {"XXX", "XTS", "XAU", "BTC", "eur", ""}


@pytest.mark.parametrize("code", ["EUR", "JPY", "KWD", "CLF"])
@given(minor=st.integers(-(2**63), 2**63 - 1))
def test_an_amount_is_exact_in_the_decimals_of_its_currency(code: str, minor: int) -> None:
    number, shown = amount(minor, code).split(" ")
    assert shown == code
    assert Decimal(number.replace(",", "")) == Decimal(minor).scaleb(-decimals(code))
    assert len(number.partition(".")[2]) == decimals(code)


@pytest.mark.parametrize(
    ("minor", "code", "text"),
    [(5, "EUR", "0.05 EUR"), (1_234, "BIF", "1,234 BIF"), (1_234, "KWD", "1.234 KWD")],
)
def test_amounts_as_they_are_written(minor: int, code: str, text: str) -> None:
    assert amount(minor, code) == text
