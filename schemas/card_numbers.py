"""Card numbers (PANs), which must not enter the system: recognise, replace by a token, mask.

Card ids are checked for them (`validation`); dead letters, error texts and logs are masked.
Source of the check digit: ISO/IEC 7812-1, annex B (Luhn).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

_CANDIDATE: Final = re.compile(rb"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])")
_SHOWN: Final = 4


def looks_like_pan(text: str) -> bool:
    """Whether the text is 13 to 19 digits (blanks and hyphens ignored) that pass the Luhn check.

    >>> looks_like_pan("4111 1111 1111 1111"), looks_like_pan("4111111111111112")
    (True, False)
    """
    digits = text.replace(" ", "").replace("-", "")
    return digits.isascii() and digits.isdigit() and 13 <= len(digits) <= 19 and _luhn(digits)


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) << (place & 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def tokenised(pan: str, key: bytes) -> str:
    """Return the token of a card number: HMAC-SHA256 of its digits, 128 bits, in hexadecimal."""
    digits = pan.replace(" ", "").replace("-", "")
    return "pan-" + hmac.new(key, digits.encode(), hashlib.sha256).hexdigest()[:32]


def mask_numbers(data: bytes) -> bytes:
    """Return the bytes, equally long, with all but the last four digits of card numbers as *.

    >>> mask_numbers(b'{"card_id": "4111111111111111"}')
    b'{"card_id": "************1111"}'
    """

    def mask(match: re.Match[bytes]) -> bytes:
        found = match.group()
        if not looks_like_pan(found.decode()):
            return found
        hidden = re.sub(rb"[0-9]", b"*", found[:-_SHOWN])
        return hidden + found[-_SHOWN:]

    return _CANDIDATE.sub(mask, data)


def masked(text: str) -> str:
    """Return a text with card numbers masked, for error texts and logs."""
    return mask_numbers(text.encode(errors="replace")).decode()
