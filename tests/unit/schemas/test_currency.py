"""Amounts for people, in every currency's own decimals."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.currency import NO_DECIMALS, THREE_DECIMALS, amount, decimals


@pytest.mark.parametrize("code", ["EUR", "XXX", *sorted(NO_DECIMALS), *sorted(THREE_DECIMALS)])
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
