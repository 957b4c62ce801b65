"""Passwords that guessers try first: known words, runs of keys, years, and the same thing again.

Whoever guesses passwords combines such pieces long before trying anything else. So a password is
judged by what remains of it without them. Pure.
"""

from __future__ import annotations

import re
from typing import Final

MIN_REMAINDER: Final = 6
"""Characters that must remain, of at least MIN_DISTINCT different ones."""
MIN_DISTINCT: Final = 4
RUN: Final = 4
"""Length from which neighbouring keys or letters are a run."""
_LIST: Final = """
access account admin administrator amanda andrea andrew angel anthony ashley august austin autumn
baby bailey banana barney baseball basketball batman biteme blink buster camaro casino change
changeme charlie cheese chelsea chicken chocolate christ christmas company computer contact cookie
corvette cowboy dallas daniel dashboard david december default diablo diamond dolphin donald dragon
eagles edward einstein elephant england falcon family february ferrari fishing flower football
forever fraud freedom friday friend gateway george ginger google guest guitar hammer hannah happy
harley heather hello hockey house hunter iceman iloveyou internet jackson james january jasmine
jennifer jessica jesus jordan joseph joshua juice july june justin killer knight kitty lakers
letmein liverpool login london loveme lovely love madison maggie manager march marina marlboro
martin master matrix matthew maverick merlin mercedes michael michelle mickey minecraft monday money
monitor monkey monster morning mother mountain murphy mustang myspace nascar natasha newyork nicole
november ncc1701 october office orange panther passphrase passw0rd passwd passwort password patrick
peanut pepper phoenix please pokemon porsche power princess private purple qazwsx qwerty qwertz
rabbit rainbow ranger raiders redskins richard robert rocket root rosebud sample samantha saturday
scooter scoring secret secure security september server service shadow shannon silver slipknot
soccer sparky spider spring starwars steelers stella strawberry summer sunday sunshine superman
support sweet system tennis test thomas thunder thursday tiger tigger tinkerbell travis trouble
trustno tuesday user username victoria viewer wednesday welcome whatever wilson winner winter wizard
yankees yellow zxcvbn
"""
WORDS: Final = tuple(sorted(_LIST.split(), key=lambda word: (-len(word), word)))
"""Common passwords and their parts, as lists of leaked passwords have them; the longest first."""
_ROWS: Final = (
    "abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop",
    "yxcvbnm", "azertyuiop", "1q2w3e4r5t6y7u8i9o0p", "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
)  # fmt: skip
_RUNS: Final = frozenset(
    row[start : start + RUN]
    for forth in _ROWS
    for row in (forth, forth[::-1])
    for start in range(len(row) - RUN + 1)
)
_LEET: Final = str.maketrans("013457@$!|", "oleastasil")
_WORDS: Final = re.compile("|".join(map(re.escape, WORDS)))
_YEAR: Final = re.compile(r"(?:19|20)\d\d")
_SAME: Final = re.compile(r"(.)\1{2,}")
_PIECE: Final = re.compile(r"(.+?)\1+")


def is_guessable(password: str, username: str) -> bool:
    """Return whether little remains of a password without what guessers try first.

    >>> is_guessable("passwordpassword", "jane"), is_guessable("P@ssw0rd2026!!!!", "jane")
    (True, True)
    >>> is_guessable("a quiet walk by the sea", "jane")
    False
    """
    text = password.lower()
    for name in (username.lower(), *re.split(r"[._@-]", username.lower())):
        if len(name) >= RUN:
            text = text.replace(name, " ")
    text = _without_runs(_YEAR.sub(" ", text))
    left = _WORDS.sub(" ", _WORDS.sub(" ", text).translate(_LEET))
    rest = "".join(_PIECE.sub(r"\1", _SAME.sub(r"\1", part)) for part in left.split())
    letters = re.sub(r"[\W_]", "", rest)
    return len(letters) < MIN_REMAINDER or len(set(letters)) < MIN_DISTINCT


def _without_runs(text: str) -> str:
    """Replace four or more neighbouring keys or letters by a blank."""
    inside = [False] * len(text)
    for start in range(len(text) - RUN + 1):
        if text[start : start + RUN] in _RUNS:
            inside[start : start + RUN] = [True] * RUN
    return "".join(" " if hidden else letter for letter, hidden in zip(text, inside, strict=True))
