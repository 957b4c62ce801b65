"""A dead letter in words, for the page and the commands. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from dashboard.dead_letters.letters import Letter
from schemas.card_numbers import masked
from schemas.codec import avro
from schemas.errors import BadMessage

MAX_TEXT_LENGTH: Final = 20_000
"""In characters; the rest of a long message is left out."""


def readable(value: bytes | None) -> str:
    """Return a message as text: Avro and JSON with line breaks, other bytes as they can be read.

    Card numbers are masked in the text, too, for letters of before a kind of them was recognised.
    """
    if value is None:
        return "no value"
    text = masked(_text(value))
    if len(text) <= MAX_TEXT_LENGTH:
        return text
    return f"{text[:MAX_TEXT_LENGTH]}\n… and {len(text) - MAX_TEXT_LENGTH} more characters"


def row(letter: Letter) -> dict[str, Any]:
    """Return a letter without its message."""
    names = (
        "failed_at",
        "service",
        "topic",
        "partition",
        "offset",
        "error_class",
        "field",
        "reason",
    )
    return {"letter": letter.offset, **{name: letter.record[name] for name in names}}  # type: ignore[literal-required]


def _text(value: bytes) -> str:
    try:
        if value[:2] == avro.MARKER:
            name, record = avro.decode(value)
            return f"{name} {json.dumps(record, indent=1, ensure_ascii=False, default=_raw)}"
        return json.dumps(json.loads(value), indent=1, ensure_ascii=False)
    except (BadMessage, ValueError, RecursionError):
        return value.decode("utf-8", "backslashreplace")


def _raw(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
