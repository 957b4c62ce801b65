"""A mapping file: which column of a table becomes which field of a Transaction.

The YAML form is documented in loadtest/mappings/README.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import yaml

from schemas.errors import ConfigurationError
from schemas.rules.label import MAX_LABEL_AHEAD_MS
from schemas.rules.transaction import REQUIRED

IDS: Final = ("transaction_id", "card_id", "merchant_id", "customer_id", "device_id")
CODES: Final = ("currency", "kind", "channel", "ip_country", "card_country", "merchant_country")
NUMBERS: Final = ("mcc", "latitude", "longitude")
FIELDS: Final = (*IDS, "ip", *CODES, *NUMBERS, "event_time", "amount", "label")
DURATIONS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
TIME_UNITS: Final = ("ns", "us", *DURATIONS)
_SOURCE: Final = frozenset(("column", "columns", "separator", "constant"))
_TEXT: Final = _SOURCE | {"prefix"}
_TIME: Final = frozenset(("format", "unit", "start", "timezone"))
_OPTIONS: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(IDS, _TEXT),
    "transaction_id": _TEXT | {"generate"},
    "ip": _TEXT | {"unit"},
    **dict.fromkeys(CODES, _TEXT | {"values"}),
    **dict.fromkeys(NUMBERS, frozenset(("column", "constant"))),
    "mcc": frozenset(("column", "constant", "values")),
    "event_time": _SOURCE | _TIME,
    "amount": frozenset(("column", "constant", "unit", "decimal", "negative")),
    "label": frozenset(("column", "constant")) | _TIME | {"fraud", "genuine", "delay", "known"},
}
_FILE_OPTIONS: Final = frozenset(("separator", "quote", "encoding", "skip", "missing"))
_SIGN: Final = re.compile(r"[\t -/:-@[-`{-~]")
_CHOICES: Final = {
    ("event_time", "unit"): TIME_UNITS,
    ("label", "unit"): TIME_UNITS,
    ("amount", "unit"): ("minor", "major"),
    ("amount", "decimal"): (".", ","),
    ("amount", "negative"): ("refund", "reversal"),
    ("ip", "unit"): ("text", "integer"),
    ("transaction_id", "generate"): ("row_number",),
}


def duration_ms(text: str | int) -> int:
    """Return a duration in ms; a plain number is ms.

    >>> duration_ms("90m"), duration_ms("1.5d"), duration_ms(250)
    (5400000, 129600000, 250)

    Raises:
        ConfigurationError: it is not a duration.
    """
    value = str(text).strip()
    for unit in sorted(DURATIONS, key=len, reverse=True):
        if value.endswith(unit) and value[: -len(unit)].replace(".", "", 1).isdigit():
            return round(float(value[: -len(unit)]) * DURATIONS[unit])
    if value.isdigit():
        return int(value)
    raise ConfigurationError(f"{value!r} is not a duration: write 7d, 12h, 30m, 45s or 500ms")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping file: field name to its specification, and how a text file is written.

    `missing` are the texts that stand for a missing value.
    """

    source: str
    fields: dict[str, dict[str, Any]]
    file: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Mapping:
        """Read a mapping file.

        Raises:
            ConfigurationError: it cannot be read, names an unknown field or option, lacks a
                required field, or has a value that YAML does not read as it is written.
        """
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise ConfigurationError(f"cannot read mapping {path}: {error}") from error
        raw = document.get("fields") if isinstance(document, dict) else None
        if not isinstance(raw, dict):
            raise ConfigurationError(f"mapping {path} has no 'fields:' table")
        unknown = sorted(str(name) for name in raw if name not in FIELDS)
        missing = [name for name in REQUIRED if name not in raw]
        if unknown or missing:
            raise ConfigurationError(
                f"mapping {path}: unknown fields {unknown or 'none'}, missing fields "
                f"{missing or 'none'}; the fields are {', '.join(FIELDS)}"
            )
        fields = {
            name: spec if isinstance(spec, dict) else {"column": spec} for name, spec in raw.items()
        }
        try:
            for name, spec in fields.items():
                _check(name, spec)
            file = document.get("file") or {}
            _check_file(file)
        except (ValueError, ConfigurationError) as error:
            raise ConfigurationError(f"mapping {path}, {error}") from error
        form = {key: str(value) for key, value in file.items() if key != "missing"}
        return cls(str(path), fields, form, tuple(file.get("missing", ())))

    def columns(self) -> list[str]:
        """Return the columns of the input that the mapping reads."""
        names: list[str] = []
        for spec in self.fields.values():
            names += spec.get("columns", [])
            names += [spec[key] for key in ("column", "known") if key in spec]
        return list(dict.fromkeys(names))


def _known(name: str, spec: Any, allowed: frozenset[str]) -> None:
    if not isinstance(spec, dict):
        raise ValueError(f"{name}: {spec!r} is not a table of options")
    unknown = sorted(str(key) for key in spec if key not in allowed)
    if unknown:
        raise ValueError(
            f"{name}: unknown options {unknown}; it takes {', '.join(sorted(allowed))}"
        )


def _check(name: str, spec: dict[str, Any]) -> None:
    """Raise ValueError for what a specification must not say."""
    _known(name, spec, _OPTIONS[name])
    ways = [way for way in ("column", "columns", "constant", "generate") if way in spec]
    if len(ways) != 1:
        raise ValueError(f"{name}: give exactly one of column, columns and constant")
    for key, value in spec.items():
        choices = _CHOICES.get((name, key))
        if choices is not None and value not in choices:
            raise ValueError(f"{name}: {key} {value!r} is unknown: write {' or '.join(choices)}")
    columns = spec.get("columns", [spec[key] for key in ("column", "known") if key in spec])
    if "columns" in spec and (not isinstance(columns, list) or not columns):
        raise ValueError(f"{name}: columns {columns!r} is not a list of names: write [day, time]")
    for column in columns:
        _text(name, "column", column)
    for key in ("separator", "prefix", "format", "timezone"):
        if key in spec:
            _text(name, key, spec[key])
    if "constant" in spec and name in (*IDS, "ip", *CODES):
        _text(name, "constant", spec["constant"])
    for key in ("constant", "fraud", "genuine", "delay"):
        if key in spec and not isinstance(spec[key], str | int | float | date):
            raise ValueError(f"{name}: {key} {spec[key]!r} is not a single value")
    if duration_ms(spec.get("delay", 0)) > MAX_LABEL_AHEAD_MS:
        raise ValueError(f"{name}: delay {spec['delay']!r} is more than a year")
    _check_values(name, spec.get("values", {}))
    _check_time(name, spec)


def _check_time(name: str, spec: dict[str, Any]) -> None:
    unit = spec.get("unit")
    if name in ("event_time", "label") and unit in ("m", "h", "d") and "start" not in spec:
        raise ValueError(f"{name}: unit {unit} counts from a start: write start: 2024-01-01")
    if "start" in spec and unit is None:
        raise ValueError(f"{name}: start is what numbers count from: write unit: s, m, h or d")
    for key in ("format", "timezone"):
        if unit is not None and key in spec:
            raise ValueError(f"{name}: {key} is for texts and unit for numbers: give one of them")


def _check_values(name: str, values: Any) -> None:
    if not isinstance(values, dict):
        raise ValueError(f'{name}: values {values!r} is not a table: write {{"theirs": ours}}')
    for theirs, ours in values.items():
        _text(name, "values", theirs)
        _text(name, "values", ours)


def _check_file(file: Any) -> None:
    """Raise ValueError for what is not a way of writing a file."""
    _known("file", file, _FILE_OPTIONS)
    for key in ("separator", "quote"):
        sign = file.get(key, ",")
        if not isinstance(sign, str) or not _SIGN.fullmatch(sign):
            raise ValueError(
                f'file: {key} {sign!r} is not one sign of ASCII; a tab is "\\t" in double quotes'
            )
    if file.get("separator", ",") == file.get("quote", '"'):
        raise ValueError("file: separator and quote are the same")
    skip = file.get("skip", 0)
    if not isinstance(skip, int) or isinstance(skip, bool) or skip < 0:
        raise ValueError(f"file: skip {skip!r} is not a number of lines before the header")
    missing = file.get("missing", [])
    if not isinstance(missing, list):
        raise ValueError(f'file: missing {missing!r} is not a list of texts: write ["NULL", "-"]')
    for each in missing:
        _text("file", "missing", each)


def _text(name: str, key: str, value: Any) -> None:
    """Refuse what YAML does not read as the text that was written: NO, 007, 2024-01-01."""
    if not isinstance(value, str):
        kind = {bool: "a boolean", int: "a number"}.get(type(value), f"a {type(value).__name__}")
        raise ValueError(
            f"{name}: YAML reads {key} as {kind}, {value!r}: put it in quotes to mean the text"
        )
