"""Values from outside in words for people: amounts, cards, names. Pure."""

from __future__ import annotations

from typing import Final

SHOWN: Final = 4
"""Characters of a card that everyone may see."""
NO_CENTS: Final = frozenset(("JPY", "KRW", "VND", "CLP", "ISK", "XAF", "XOF", "XPF", "UGX", "PYG"))
"""Currencies whose minor unit is the major one (ISO 4217)."""


def masked(card_id: str) -> str:
    """Return a card by its last characters, as on a receipt.

    >>> masked("card-004711")
    '••••4711'
    """
    return "••••" + (card_id[-SHOWN:] if len(card_id) > SHOWN else "")


def amount(minor: int, currency: str) -> str:
    """Return an amount in major units with its currency.

    >>> amount(123456, "EUR")
    '1,234.56 EUR'
    """
    text = f"{minor:,}" if currency in NO_CENTS else f"{minor / 100:,.2f}"
    return f"{text} {currency}"
