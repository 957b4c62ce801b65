"""Amounts as people write them are read right, or not at all."""

from __future__ import annotations

from decimal import Decimal

import pytest

from schemas.mapping.written_amounts import Mark, OtherCurrencyError, decimal_mark, parse_amount

READ: list[tuple[str, str, str]] = [
    ("12,50 €", "EUR", "12.50"),
    ("€12.50", "EUR", "12.50"),
    ("EUR 12.50", "EUR", "12.50"),
    ("12.50 eur", "EUR", "12.50"),
    ("USD 12.50", "USD", "12.50"),
    ("$1,234.50", "USD", "1234.50"),
    ("$1,234.50", "AUD", "1234.50"),
    ("US$ 5", "USD", "5"),
    ("R$ 1.234,56", "BRL", "1234.56"),
    ("1 234,56", "EUR", "1234.56"),
    ("1\u2009234,56", "EUR", "1234.56"),
    ("1\u00a0234\u00a0567", "EUR", "1234567"),
    ("1'234.56", "CHF", "1234.56"),
    ("1’234.56", "CHF", "1234.56"),
    ("Fr. 12.50", "CHF", "12.50"),
    ("Rs.500", "INR", "500"),
    ("kr 12,-", "SEK", "12"),
    ("12,--", "EUR", "12"),
    ("+12.50", "EUR", "12.50"),
    (".50", "USD", "0.50"),
    ("'12.00", "EUR", "12.00"),
    ("12.00 DR", "EUR", "12.00"),
    ("12.00 CR", "EUR", "-12.00"),
    ("12.00CR", "EUR", "-12.00"),
    ("12.00-", "EUR", "-12.00"),
    ("−12.00", "EUR", "-12.00"),
    ("$-99.00", "USD", "-99.00"),
    ("(12.00)", "EUR", "-12.00"),
    ("($12.00)", "USD", "-12.00"),
    ("€1,234.50-", "EUR", "-1234.50"),
]


@pytest.mark.parametrize(("text", "currency", "expected"), READ)
def test_an_amount_is_what_people_mean_by_it(text: str, currency: str, expected: str) -> None:
    assert parse_amount(text, currency=currency) == Decimal(expected)


NOT_NUMBERS = [
    "12.5%", "12 cents", "1.2k", "12 34", "1 2 3", "1,23,4.00", "1,234", "0x10", "1_000", "1E+3",
    "NaN", "Infinity", "-", "", "NULL", "\\N", "N/A", "--12", "-(12)", "(12", "12)", "-12 CR",
    "12.00 CR DR", "EUR.50", "twelve", "12.00.00,0", "€", "1 234 56,7",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_what_cannot_be_told_is_not_guessed(text: str) -> None:
    assert parse_amount(text, currency="EUR") is None


@pytest.mark.parametrize("text", ["$12.50", "12.50 USD", "£5", "kr 12", "Rs.500", "R$ 1", "CHF 7"])
def test_an_amount_in_another_currency_is_not_taken_for_the_row_s(text: str) -> None:
    with pytest.raises(OtherCurrencyError):
        parse_amount(text, currency="EUR")


def test_a_sign_of_several_currencies_fits_each_of_them() -> None:
    for currency in ("SEK", "NOK", "DKK", "ISK"):
        assert parse_amount("12 kr", currency=currency) == 12


MARKS: list[tuple[list[str], Mark | None]] = [
    (["1.000,50", "1.000"], ","),
    (["1,234.50", "1,234"], "."),
    (["1,234", "5,678"], None),
    (["12,5"], ","),
    (["1.234.567"], ","),
    (["Fr. 1,234"], None),
    (["1,234.5", "1.234,5"], None),
]


@pytest.mark.parametrize(("texts", "mark"), MARKS)
def test_the_decimal_mark_is_what_a_column_leaves_no_doubt_about(
    texts: list[str], mark: Mark | None
) -> None:
    assert decimal_mark(texts) == mark
