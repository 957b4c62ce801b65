"""A card in words for people. Pure."""

from __future__ import annotations

from typing import Final

SHOWN: Final = 4
"""Characters of a card that everyone may see."""


def masked(card_id: str) -> str:
    """Return a card by its last characters, as on a receipt.

    >>> masked("card-004711")
    '••••4711'
    """
    return "••••" + (card_id[-SHOWN:] if len(card_id) > SHOWN else "")
