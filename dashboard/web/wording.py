"""Masked card ids. Pure."""

from __future__ import annotations

from typing import Final

SHOWN: Final = 4
"""Characters of a card id that everyone may see."""


def masked(card_id: str) -> str:
    """Return a card id reduced to its last characters, as on a receipt.

    >>> masked("card-004711")
    '••••4711'
    """
    return "••••" + (card_id[-SHOWN:] if len(card_id) > SHOWN else "")
