"""Column mapping: any Parquet or CSV table to the fields of a Transaction, with labels.

The YAML form is documented in loadtest/mappings/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from schemas.columns import CHANNELS
from schemas.errors import ConfigurationError

IDS: Final = ("transaction_id", "card_id", "merchant_id", "customer_id", "device_id", "ip")
TEXTS: Final = ("currency", "channel", "ip_country", "card_country", "merchant_country")
NUMBERS: Final = {"mcc": pa.int32(), "latitude": pa.float64(), "longitude": pa.float64()}
FIELDS: Final = (*IDS, *TEXTS, *NUMBERS, "event_time", "amount", "label")
REQUIRED: Final = ("transaction_id", "card_id", "merchant_id", "event_time", "amount", "currency")
TIME_UNITS: Final = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
AMOUNT_UNITS: Final = {"minor": 1, "major": 100}
DURATIONS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


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
    """One mapping file: field name to its specification."""

    source: str
    fields: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, path: Path) -> Mapping:
        """Read a mapping file.

        Raises:
            ConfigurationError: it cannot be read, names an unknown field or lacks a required one.
        """
        try:
            document = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ConfigurationError(f"cannot read mapping {path}: {error}") from error
        raw = document.get("fields") if isinstance(document, dict) else None
        if not isinstance(raw, dict):
            raise ConfigurationError(f"mapping {path} has no 'fields:' table")
        unknown = sorted(set(raw) - set(FIELDS))
        missing = [name for name in REQUIRED if name not in raw]
        if unknown or missing:
            raise ConfigurationError(
                f"mapping {path}: unknown fields {unknown or 'none'}, missing fields "
                f"{missing or 'none'}; the fields are {', '.join(FIELDS)}"
            )
        fields = {
            name: spec if isinstance(spec, dict) else {"column": spec} for name, spec in raw.items()
        }
        return cls(str(path), fields)

    def columns(self) -> list[str]:
        """Return the columns of the input that the mapping reads."""
        names: list[str] = []
        for spec in self.fields.values():
            names += spec.get("columns", [])
            names += [spec[key] for key in ("column", "known") if key in spec]
        return list(dict.fromkeys(names))

    def apply(self, table: pa.Table) -> pa.Table:
        """Return the table under our field names.

        `event_time` and `label_time` are int64 ms, `amount` int64 minor units, ids are
        dictionary-encoded strings, `label` is bool.

        Raises:
            ConfigurationError: a column is missing or a value cannot be converted.
        """
        absent = [name for name in self.columns() if name not in table.column_names]
        if absent:
            raise ConfigurationError(
                f"mapping {self.source} reads {absent}, the input has {table.column_names}"
            )
        out = {name: self._field(table, name, spec) for name, spec in self.fields.items()}
        for name in REQUIRED:
            if out[name].null_count:
                row = out[name].is_null().index(True).as_py()
                raise ConfigurationError(
                    f"mapping {self.source}, field {name} ({self.fields[name]}): row {row} is "
                    "empty; fill it or leave the row out"
                )
        if "label" in out:
            out["label_time"] = self._label_time(table, out["event_time"])
        return pa.table(out)

    def _label_time(self, table: pa.Table, event_time: pa.Array) -> pa.Array:
        """Return when each label becomes known: its own column or the event time, plus `delay`."""
        spec = self.fields["label"]
        delay = pa.scalar(duration_ms(spec.get("delay", "0s")), pa.int64())
        if "known" not in spec:
            return pc.add(event_time, delay)
        try:
            times = _time(table, {**spec, "column": spec["known"]})
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, ValueError) as error:
            raise ConfigurationError(
                f"mapping {self.source}, time of the label ({spec}): {error}"
            ) from error
        return pc.add(pc.coalesce(times, event_time), delay)

    def _field(self, table: pa.Table, name: str, spec: dict[str, Any]) -> Any:
        try:
            if name in IDS or name in TEXTS:
                return _text(table, spec)
            if name == "event_time":
                return _time(table, spec)
            if name == "amount":
                return _amount(table, spec)
            column = _raw(table, spec)
            if name == "label":
                return _label(column, spec)
            return column.cast(NUMBERS[name])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, ValueError) as error:
            raise ConfigurationError(
                f"mapping {self.source}, field {name} ({spec}): {error}"
            ) from error


def _raw(table: pa.Table, spec: dict[str, Any]) -> pa.Array:
    if "constant" in spec:
        return pa.repeat(pa.scalar(spec["constant"]), table.num_rows)
    return table.column(spec["column"]).combine_chunks()


def _label(column: pa.Array, spec: dict[str, Any]) -> pa.BooleanArray:
    if pa.types.is_boolean(column.type) and "fraud" not in spec:
        return column
    fraud = str(spec.get("fraud", 1))
    if pa.types.is_integer(column.type) and fraud.lstrip("-").isdigit():
        return pc.equal(column.cast(pa.int64()), int(fraud))
    return pc.equal(column.cast(pa.string()), fraud)


def _encoded(column: pa.Array) -> pa.DictionaryArray:
    """Dictionary-encode; whole numbers of a narrow range need no hash table."""
    if pa.types.is_dictionary(column.type):
        return column
    if pa.types.is_integer(column.type) and not column.null_count and len(column):
        numbers = column.to_numpy(zero_copy_only=False).astype(np.int64)
        low, high = int(numbers.min()), int(numbers.max())
        if high - low < 2 * len(numbers):
            codes = pa.array((numbers - low).astype(np.int32))
            return pa.DictionaryArray.from_arrays(codes, pa.array(np.arange(low, high + 1)))
    return column.dictionary_encode()


def _text(table: pa.Table, spec: dict[str, Any]) -> pa.DictionaryArray:
    if "constant" in spec:
        codes = pa.array(np.zeros(table.num_rows, np.int32))
        return pa.DictionaryArray.from_arrays(codes, pa.array([str(spec["constant"])]))
    if "columns" in spec:
        parts = [table.column(name).combine_chunks().cast(pa.string()) for name in spec["columns"]]
        column: Any = pc.binary_join_element_wise(*parts, spec.get("separator", "-"))
    else:
        column = _raw(table, spec)
    encoded = _encoded(column)
    codes, values = encoded.indices, encoded.dictionary.cast(pa.string())
    blank = pc.index(values, "").as_py()
    if blank >= 0:  # missing: CSV has no other way to leave a text out
        codes = pc.if_else(pc.equal(codes, blank), None, codes)
    if "prefix" in spec:
        values = pc.binary_join_element_wise(pa.scalar(str(spec["prefix"])), values, "")
    return pa.DictionaryArray.from_arrays(codes, values)


def _time(table: pa.Table, spec: dict[str, Any]) -> pa.Array:
    column = _raw(table, spec)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.strptime(column, format=spec.get("format", "%Y-%m-%d %H:%M:%S"), unit="ms")
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("ms")).cast(pa.int64())
    factor = TIME_UNITS[spec.get("unit", "ms")]
    if pa.types.is_integer(column.type) and factor >= 1:
        return pc.multiply(column.cast(pa.int64()), int(factor))
    numbers = pc.multiply(column.cast(pa.float64(), safe=False), factor)
    return pc.round(numbers, round_mode="half_to_even").cast(pa.int64())


def _amount(table: pa.Table, spec: dict[str, Any]) -> pa.Array:
    column = _raw(table, spec)
    factor = AMOUNT_UNITS[spec.get("unit", "minor")]
    if pa.types.is_decimal(column.type):
        return pc.round(pc.multiply(column, factor), round_mode="half_to_even").cast(pa.int64())
    numbers = column.to_numpy(zero_copy_only=False)
    if np.issubdtype(numbers.dtype, np.integer):
        return pa.array(numbers.astype(np.int64) * factor)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ValueError(f"row {row}: amount is {numbers[row]}")
    return pa.array(np.rint(numbers * factor).astype(np.int64))


def channel_codes(names: list[str]) -> list[int]:
    """Return the channel code of each name; an unknown name is OTHER."""
    return [CHANNELS.index(name) if name in CHANNELS else CHANNELS.index("OTHER") for name in names]
