"""Card numbers (PANs), which must not enter the system: recognise, replace by a token, mask.

Every text of a record is checked for them (`schemas.rules`); dead letters, error texts and logs are
masked.
Sources: ISO/IEC 7812-1, annex B (Luhn's check digit); the ranges of issuers as the card networks
publish them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

_SEPARATOR: Final = rb"(?:[ ._/-]|\xc2\xa0|\xe2\x80\xaf)"
_CANDIDATE: Final = re.compile(rb"[0-9](?:%b{0,2}[0-9]){12,}" % _SEPARATOR)
_GROUP: Final = re.compile(rb"[0-9]+")
_RUN: Final = re.compile(
    rb"(?<![0-9A-Fa-f])[0-9]+(?![0-9A-Fa-f])(?:%b{1,2}[0-9]+(?![0-9A-Fa-f]))*" % _SEPARATOR
)
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SEPARATORS: Final = str.maketrans("", "", " ._/-\u00a0\u202f")
_SIZES: Final = range(13, 20)
"""How many digits a card number has."""
_LONGEST_ID: Final = 64
"""Digits; more in a row are masked as one, because looking at each window takes time."""
_SHOWN: Final = 4
TOKEN: Final = "pan1-"
"""How every token begins; 1 is the way in which it is made."""
_TOKEN: Final = re.compile(TOKEN + "[0-9a-f]{8}-[0-9a-f]{32}")
MIN_KEY_BYTES: Final = 32
"""A shorter key could be found by trying, and with it every number."""


def looks_like_pan(text: str) -> bool:
    """Whether the text is 13 to 19 digits that pass the Luhn check.

    Blanks, no-break spaces, hyphens, dots, underscores and slashes are ignored.

    >>> looks_like_pan("4111 1111 1111 1111"), looks_like_pan("4111111111111112")
    (True, False)
    """
    digits = text.translate(_SEPARATORS)
    return digits.isascii() and digits.isdigit() and len(digits) in _SIZES and _luhn(digits)


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) << (place & 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _issued(digits: str) -> bool:
    """Whether a network issues card numbers that begin so, in this length."""
    if len(digits) >= 14 and is_sure_prefix(digits):
        return True
    two = int(digits[:2])
    return two == 50 or 56 <= two <= 69 or (digits[0] == "4" and len(digits) == 13)


def is_sure_prefix(digits: str) -> bool:
    """Whether a network issues numbers that begin so, in a length that is used today.

    Visa has 16 or 19 digits, Mastercard and Mir 16, American Express 15, Diners Club 14 to 19, and
    Maestro, Discover, UnionPay, JCB and RuPay 16 to 19.
    """
    size, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if two in (36, 38, 39) or 3000 <= four <= 3059:
        return size >= 14
    if two in (34, 37):
        return size == 15
    if 40 <= two <= 49:
        return size in (16, 19)
    if 51 <= two <= 55 or 2200 <= four <= 2204 or 2221 <= four <= 2720:
        return size == 16
    return size >= 16 and (two == 50 or 56 <= two <= 69 or two in (81, 82) or 3528 <= four <= 3589)


def number_in(text: str) -> str | None:
    """Return the digits of the first card number in a text, None if there is none.

    A number is made of whole groups of digits, with at most two separators between two groups, so
    that part of a longer number is not one, nor are digits beside a letter from A to F, as in a
    hash; a UUID holds none. It passes the Luhn check and begins as a network's numbers of that
    length do. Of random numbers of 16 digits, one in 22 does.

    >>> number_in("4111 1111 1111 1111 12/29")
    '4111111111111111'
    >>> number_in("order 94111111111111111"), number_in("550e8400-e29b-41d4-a716-446655440000")
    (None, None)
    """
    if _UUID.fullmatch(text) is not None:
        return None
    for run in _RUN.finditer(text.encode(errors="replace")):
        groups: list[bytes] = _GROUP.findall(run.group())
        for first in range(len(groups)):
            digits = ""
            for group in groups[first:]:
                digits += group.decode()
                if len(digits) >= _SIZES.stop:
                    break
                if len(digits) in _SIZES and is_sure_prefix(digits) and _luhn(digits):
                    return digits
    return None


def card_number(text: str) -> str | None:
    """Return the number that a card id is or holds, None if it is an id or a token of ours.

    A text that is nothing but a number is one whatever it begins with: a card id is no other id.
    """
    if is_token(text):
        return None
    return text if looks_like_pan(text) else number_in(text)


def key_id(key: bytes) -> str:
    """Return the public name of a key: 8 hexadecimal digits of its HMAC of a fixed text.

    It stands in every token, so that tokens of two keys are told apart. It says nothing of the key.
    """
    return hmac.new(key, b"fraud-scoring pan key id", hashlib.sha256).hexdigest()[:8]


def tokenised(pan: str, key: bytes) -> str:
    """Return the token of a card number: HMAC-SHA256 of its digits, 128 bits, in hexadecimal.

    >>> tokenised("4111 1111 1111 1111", b"an example of a key of 32 bytes.")
    'pan1-772eea06-3d98d532fdad4ebddfd93686ebe407e7'
    """
    digits = pan.translate(_SEPARATORS)
    code = hmac.new(key, digits.encode(), hashlib.sha256).hexdigest()[:32]
    return f"{TOKEN}{key_id(key)}-{code}"


def is_token(text: str) -> bool:
    """Whether a text is a token of ours, under any key; its digits are no card number."""
    return _TOKEN.fullmatch(text) is not None


def mask_numbers(data: bytes) -> bytes:
    """Return the bytes, equally long, with all but the last four digits of card numbers as *.

    A card number is also found among other digits, if it begins like one of a network: bytes around
    it may be digits by chance, and people write the expiry date behind it.

    >>> mask_numbers(b'{"card_id": "4111111111111111"}')
    b'{"card_id": "************1111"}'
    >>> mask_numbers(b"7 4111-1111-1111-1111 12/29")
    b'7 ****-****-****-1111 12/29'
    """

    def mask(match: re.Match[bytes]) -> bytes:
        found = bytearray(match.group())
        places = [place for place, byte in enumerate(found) if 0x30 <= byte <= 0x39]
        digits = bytes(found[place] for place in places).decode()
        for first, last in _numbers(digits):
            for place in places[first : last - _SHOWN]:
                found[place] = 0x2A
        return bytes(found)

    return _CANDIDATE.sub(mask, data)


def _numbers(digits: str) -> list[tuple[int, int]]:
    """Return the first and the end of every card number among digits."""
    if len(digits) > _LONGEST_ID or (len(digits) in _SIZES and _luhn(digits)):
        return [(0, len(digits))]
    windows = (
        (first, first + size)
        for first in range(len(digits) - _SIZES.start + 1)
        for size in _SIZES
        if first + size <= len(digits)
    )
    return [
        (first, last)
        for first, last in windows
        if _issued(digits[first:last]) and _luhn(digits[first:last])
    ]


def masked(text: str) -> str:
    """Return a text with card numbers masked, for error texts and logs."""
    return mask_numbers(text.encode(errors="replace")).decode()
