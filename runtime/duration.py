"""A duration as people write it: 7d, 12h, 30m, 45s or 500ms."""

from __future__ import annotations

from typing import Any, Final, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Duration(str):
    """A whole number and a unit; the text as it was written, and its length as `ms` or `s`.

    It is a type for a field of a pydantic model as well.

    Example:
        >>> Duration("12h").ms, Duration("500ms").s
        (43200000, 0.5)

    Raises:
        ValueError: the text is not a whole number with one of the units.
    """

    ms: int
    """Its length in milliseconds."""

    def __new__(cls, text: str) -> Self:
        """Read `text`."""
        for unit, unit_ms in _UNITS_MS.items():
            number = text.removesuffix(unit)
            if number != text and number.isdigit():
                made = super().__new__(cls, text)
                made.ms = int(number) * unit_ms
                return made
        raise ValueError("write a whole number and a unit: 7d, 12h, 30m, 45s or 500ms")

    @property
    def s(self) -> float:
        """Its length in seconds."""
        return self.ms / 1000

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Let pydantic check a field of this type; a text that is wrong is one of its errors."""
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
