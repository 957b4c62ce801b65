"""Columns of any type to labels: whether a row is fraud."""

from __future__ import annotations

import re
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from schemas.card_numbers import masked
from schemas.mapping.texts import plain

MAX_SHOWN: Final = 10
_BOOLEANS: Final = {"true": True, "false": False}
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


def labels(column: Any, spec: dict[str, Any]) -> pa.BooleanArray:
    """Return whether each row is fraud, null where the cell is blank or says neither.

    Raises:
        ValueError: `fraud` is a YAML boolean, and the column's texts are not true and false.
    """
    wanted, genuine = spec.get("fraud", 1), spec.get("genuine")
    if pa.types.is_boolean(column.type):
        return column if wanted in (1, True, "true", "True") else pc.invert(column)
    encoded = plain(column)
    held = {text.strip().lower() for text in encoded.dictionary.to_pylist() if text}
    if isinstance(wanted, bool) and not held <= _BOOLEANS.keys():
        raise ValueError(
            f"YAML reads fraud as a boolean, {wanted}, but the column holds "
            f"{', '.join(sorted(held)[:5])}: put the value in quotes to mean the text"
        )

    def verdict(text: str | None) -> bool | None:
        if text is None or not text.strip():
            return None
        if _means(text.strip(), wanted):
            return True
        return False if genuine is None or _means(text.strip(), genuine) else None

    verdicts = [verdict(text) for text in encoded.dictionary.to_pylist()]
    return pa.array(verdicts or [None], pa.bool_()).take(encoded.indices)


def _means(text: str, wanted: str | float | bool) -> bool:
    """Whether a cell says what a mapping wrote; 1 is also 1.0."""
    if isinstance(wanted, bool):
        return _BOOLEANS[text.lower()] == wanted if text.lower() in _BOOLEANS else False
    if isinstance(wanted, int | float) and _NUMBER.fullmatch(text):
        return float(text) == wanted
    return text == str(wanted)


def label_doubts(column: Any, spec: dict[str, Any]) -> list[str]:
    """Return what a person should know about how the cells of a column were read as labels."""
    wanted, genuine = spec.get("fraud", 1), spec.get("genuine")
    if pa.types.is_boolean(column.type):
        return []
    held = [text.strip() for text in plain(column).unique().to_pylist() if text and text.strip()]
    others = list(dict.fromkeys(text for text in held if not _means(text, wanted)))
    listed = ", ".join(masked(repr(each)) for each in others[:MAX_SHOWN]) or "nothing"
    if len(others) == len(set(held)) and len(column):
        return [f"label: no row is fraud; the mapping says {wanted!r}, the column holds {listed}"]
    if genuine is None:
        if len(others) > 1:
            return [
                f"label: everything but {wanted!r} is read as genuine: {listed}; write genuine: "
                "with the one text that is, and the others are not labels"
            ]
        return []
    neither = [text for text in others if not _means(text, genuine)]
    listed = ", ".join(masked(repr(each)) for each in neither[:MAX_SHOWN])
    return [f"label: neither fraud nor genuine, and no label: {listed}"] if neither else []
