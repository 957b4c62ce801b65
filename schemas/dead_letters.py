"""Dead letters: a record that cannot be served, with its position and the reason.

Card numbers in key, value, field and reason are masked. Long parts are cut, so that the dead letter
fits into one message together with its reason; they are cut after that, because the beginning of a
number at their end would not be known as one.
"""

from __future__ import annotations

from typing import Final

from schemas.card_numbers import mask_numbers, masked
from schemas.codec import avro
from schemas.errors import BadMessage
from schemas.records import DeadLetter
from schemas.topics import MAX_MESSAGE_BYTES

SERVICE: Final = "stream_features"
MAX_VALUE_BYTES: Final = MAX_MESSAGE_BYTES // 2
MAX_KEY_BYTES: Final = 100_000
MAX_REASON_LENGTH: Final = 2_000
MAX_FIELD_LENGTH: Final = 100
"""In characters. The sender chooses the name of an unknown field, so it may be of any length."""


def dead_letter(
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    error: Exception,
    failed_at: int,
    service: str = SERVICE,
) -> tuple[bytes | None, bytes]:
    """Return key and message for the dead-letter topic; `failed_at` in ms.

    `error` is a BadMessage, or whatever the computation raised for this record alone.
    """
    field = error.field if isinstance(error, BadMessage) else None
    safe_key = None if key is None else mask_numbers(key)[:MAX_KEY_BYTES]
    letter: DeadLetter = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "key": safe_key,
        "value": None if value is None else mask_numbers(value)[:MAX_VALUE_BYTES],
        "error_class": type(error).__name__,
        "field": None if field is None else masked(field)[:MAX_FIELD_LENGTH],
        "reason": masked(str(error))[:MAX_REASON_LENGTH],
        "service": service,
        "failed_at": failed_at,
    }
    return safe_key, avro.encode("DeadLetter", letter)
