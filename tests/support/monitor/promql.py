"""What a PromQL expression asks for: metrics, and labels. Enough of the grammar to check names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
    r"""|(?P<range>\[[^\]]*\])"""
    r"""|(?P<number>[0-9][0-9a-z.]*)"""
    r"""|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"""
    r"""|(?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^(){},=<>])"""
)
_WORDS: Final = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
_LISTS: Final = {"by", "without", "ignoring", "on", "group_left", "group_right"}


@dataclass
class Asked:
    """Names in one expression."""

    selectors: dict[str, set[str]] = field(default_factory=dict)
    """Labels that are matched, by metric."""
    grouped: set[str] = field(default_factory=set)
    """Labels of by, on and their like."""


def asked(expression: str) -> Asked:
    """Return the metrics and labels of an expression."""
    tokens = [
        (kind, match.group())
        for match in _TOKEN.finditer(expression)
        if (kind := match.lastgroup) != "range"
    ]
    found = Asked()
    place = 0
    metric = ""
    while place < len(tokens):
        kind, text = tokens[place]
        if kind == "name" and text in _LISTS:
            place, names = _list(tokens, place + 1, "(", ")")
            found.grouped |= names
        elif text == "{":
            place, names = _list(tokens, place, "{", "}")
            found.selectors[metric] |= names
        elif kind == "name" and text.lower() not in _WORDS and not _is_function(tokens, place):
            metric = text
            found.selectors.setdefault(metric, set())
            place += 1
        else:
            place += 1
    return found


def _is_function(tokens: list[tuple[str | None, str]], place: int) -> bool:
    """Whether the name is applied: `sum(`, `sum by (…) (`."""
    following = tokens[place + 1][1] if place + 1 < len(tokens) else ""
    return following == "(" or following in ("by", "without")


def _list(
    tokens: list[tuple[str | None, str]], place: int, opening: str, closing: str
) -> tuple[int, set[str]]:
    """Return the place behind a list, and the names in it; nothing if there is no list."""
    if place >= len(tokens) or tokens[place][1] != opening:
        return place, set()
    end = next(at for at in range(place, len(tokens)) if tokens[at][1] == closing)
    return end + 1, {text for kind, text in tokens[place:end] if kind == "name"}
