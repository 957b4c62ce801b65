"""A table under our field names, checked by the rule book that messages are checked by.

A row with a required field that cannot be used is rejected; context that cannot be read is missing,
and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.card_numbers import masked
from schemas.codec.transactions_kernel import EARLIEST_MS, MAX_AHEAD_MS, MAX_AMOUNT
from schemas.columns import KINDS, PURCHASE
from schemas.errors import ConfigurationError, InvalidField
from schemas.mapping.amounts import amounts
from schemas.mapping.arrays import combined, decoded, floats, is_number, is_text, split
from schemas.mapping.document import CODES, IDS, NUMBERS, Mapping, duration_ms
from schemas.mapping.faults import RowFault, fault
from schemas.mapping.labels import label_doubts, labels
from schemas.mapping.screens import unusual_addresses, unusual_ids
from schemas.mapping.texts import doubtful_ids, integer_addresses, texts
from schemas.mapping.times import numbers_of, remedy, times
from schemas.rules.label import MAX_LABEL_AHEAD_MS, check_label_time
from schemas.rules.transaction import CHECKED, REQUIRED, Rules, read_field

MAX_SHOWN: Final = 10
"""Distinct values that a note names."""
Mask = npt.NDArray[np.bool_]


class MappedTable(NamedTuple):
    """What a mapping makes of a table of `rows` rows.

    `table` holds the rows that can be used, in their order. `event_time` and `label_time` are int64
    ms; `amount` is int64 in minor units of `currency`, `base_amount` of the base currency; texts
    are dictionary-encoded, `label` is bool. `faults` name the rejected rows, `unread` counts the
    values of each context field that could not be read in the others, `notes` are for a person to
    look at.
    """

    table: pa.Table
    rows: int
    faults: list[RowFault]
    unread: dict[str, int]
    notes: list[str]


def apply(mapping: Mapping, table: pa.Table, rules: Rules) -> MappedTable:
    """Return a table under our field names.

    Raises:
        ConfigurationError: a column is missing, or none of its values can be what is asked of it.
    """
    absent = [name for name in mapping.columns() if name not in table.column_names]
    if absent:
        raise ConfigurationError(
            f"mapping {mapping.source} reads {absent}, the input has {table.column_names}"
        )
    if mapping.missing:
        table = _without(table, mapping.missing)
    reading = _Reading(mapping, table, rules)
    for name in (*IDS, "ip", *CODES, *NUMBERS, "event_time", "amount", "label"):
        if name in mapping.fields:
            reading.read(name)
    return reading.result()


def _without(table: pa.Table, missing: Sequence[str]) -> pa.Table:
    """Return a table whose texts are null where they stand for a missing value."""
    absent = pa.array(missing, pa.string())
    for place, name in enumerate(table.column_names):
        column = table.column(name)
        if is_text(column.type):
            gone = pc.is_in(column, absent.cast(column.type))
            table = table.set_column(place, name, pc.if_else(gone, None, column))
    return table


@dataclass(slots=True)
class _Reading:
    """The fields that were read so far, and what was wrong with them."""

    mapping: Mapping
    table: pa.Table
    rules: Rules
    columns: dict[str, Any] = field(default_factory=dict)
    faults: dict[int, RowFault] = field(default_factory=dict)
    unread: dict[str, Mask] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def read(self, name: str) -> None:
        spec = self.mapping.fields[name]
        try:
            if name in IDS or name == "ip" or name in CODES:
                self._text(name, spec)
            elif name in NUMBERS:
                self._number(name, spec)
            elif name == "event_time":
                self._time(name, spec)
            elif name == "amount":
                self._amount(spec)
            else:
                self._label(spec)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise ConfigurationError(
                f"mapping {self.mapping.source}, field {name} ({spec}): {error}"
            ) from error

    def result(self) -> MappedTable:
        rejected = np.zeros(self.table.num_rows, np.bool_)
        rejected[list(self.faults)] = True
        made = pa.table(self.columns)
        if self.faults:
            made = made.filter(pa.array(~rejected))
        self._look(made)
        faults = [self.faults[row] for row in sorted(self.faults)]
        counts = {name: int((mask & ~rejected).sum()) for name, mask in self.unread.items()}
        unread = {name: count for name, count in counts.items() if count}
        return MappedTable(made, self.table.num_rows, faults, unread, self.notes)

    def _unread(self, name: str, rows: npt.NDArray[np.int64]) -> None:
        """Note the rows whose value of a context field cannot be read."""
        mask = self.unread.setdefault(name, np.zeros(self.table.num_rows, np.bool_))
        mask[rows] = True

    def _text(self, name: str, spec: dict[str, Any]) -> None:
        column = texts(self.table, spec)
        if name == "ip" and (spec.get("unit") == "integer" or self._whole(spec)):
            column = integer_addresses(column)
        if name in IDS:
            self._doubt(name, column)
        odd = self._odd_values(name, column.dictionary)
        if len(odd):
            column = self._reread(name, column, odd)
        if name in REQUIRED and column.null_count:
            self._refuse_missing(name, column.is_null().to_numpy(zero_copy_only=False))
        self.columns[name] = column

    def _doubt(self, name: str, column: Any) -> None:
        """Note ids that a spreadsheet or an export has spoilt: nothing is guessed about them."""
        for wrong, held in doubtful_ids(column.dictionary).items():
            rows = int(pc.sum(pc.is_in(column.cast(pa.string()), pa.array(held))).as_py() or 0)
            if rows:
                some = ", ".join(masked(repr(each)) for each in held[:MAX_SHOWN])
                self.notes.append(f"{name}: {rows:,} values {wrong}: {some}")

    def _whole(self, spec: dict[str, Any]) -> bool:
        return "column" in spec and pa.types.is_integer(self.table.column(spec["column"]).type)

    def _odd_values(self, name: str, values: Any) -> npt.NDArray[np.int64]:
        """Return which distinct values the rule book has to look at."""
        if name in IDS:
            return unusual_ids(name, values)
        if name == "ip":
            return unusual_addresses(values)
        return np.arange(len(values))

    def _reread(self, name: str, column: Any, odd: npt.NDArray[np.int64]) -> Any:
        """Replace distinct values by what the rule book makes of them; its refusals become null."""
        held = column.dictionary.take(pa.array(odd)).to_pylist()
        codes = column.indices
        clean: list[str | None] = []
        errors: dict[int, InvalidField] = {}
        for code, value in zip(odd.tolist(), held, strict=True):
            try:
                clean.append(read_field(name, {name: value}, self.rules))
            except InvalidField as error:
                errors[code] = error
                clean.append(None)
        changed = np.zeros(len(column.dictionary), np.bool_)
        changed[odd] = True
        values = pc.replace_with_mask(
            column.dictionary, pa.array(changed), pa.array(clean, pa.string())
        )
        if errors:
            rows = np.flatnonzero(
                np.isin(codes.fill_null(-1).to_numpy(zero_copy_only=False), list(errors))
            )
            if name in CHECKED:
                for row in rows.tolist():
                    self._refuse(row, name, errors[codes[row].as_py()])
            else:
                self._unread(name, rows)
                shown = dict(zip(odd.tolist(), held, strict=True))
                some = ", ".join(masked(repr(shown[code])) for code in list(errors)[:MAX_SHOWN])
                self.notes.append(f"{name}: {len(rows):,} values cannot be read: {some}")
        empty = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
        if len(empty):
            gone = np.isin(codes.fill_null(-1).to_numpy(zero_copy_only=False), empty)
            codes = pc.if_else(pa.array(gone), None, codes)
            values = values.fill_null("")
        return pa.DictionaryArray.from_arrays(codes, values)

    def _number(self, name: str, spec: dict[str, Any]) -> None:
        kind = pa.int32() if name == "mcc" else pa.float64()
        column = self._raw(spec)
        given = self._given(column)
        plain = decoded(column)
        if not (is_text(plain.type) or is_number(plain.type)):
            raise ValueError(f"is of type {plain.type}, which is not a number")
        numbers = floats(numbers_of(plain) if is_text(plain.type) else plain)
        low, high = {"mcc": (0, 9999), "latitude": (-90, 90), "longitude": (-180, 180)}[name]
        with np.errstate(invalid="ignore"):
            good = (numbers >= low) & (numbers <= high)
        if name == "mcc":
            good &= numbers == np.rint(numbers)
        unread = np.flatnonzero(given & ~good)
        if len(unread):
            self._unread(name, unread)
            first = masked(repr(self._value(spec, int(unread[0]))))
            self.notes.append(
                f"{name}: {len(unread):,} values cannot be read, the first is {first}"
            )
        self.columns[name] = pa.array(np.where(good, numbers, 0), mask=~good).cast(kind)

    def _time(self, name: str, spec: dict[str, Any]) -> None:
        raw = self._raw(spec)
        column = times(raw, spec)
        values, known = split(column)
        if not known.all():
            self._refuse_unknown(name, raw, known, "is not a time")
        beyond = known & ((values > self.rules.latest) | (values < EARLIEST_MS))
        for row in np.flatnonzero(beyond).tolist():
            self._check(row, name, {name: int(values[row])})
        self.columns[name] = column

    def _amount(self, spec: dict[str, Any]) -> None:
        currency = self.columns["currency"]
        raw = self._raw(spec)
        column, rounded, foreign = amounts(raw, spec, currency)
        if rounded.any():
            first = masked(repr(self._value(spec, int(np.flatnonzero(rounded)[0]))))
            self.notes.append(
                f"amount: {rounded.sum():,} values have more decimals than their currency and are "
                f"rounded, the first is {first}; see decimal if the sign separates thousands"
            )
        for row in np.flatnonzero(foreign).tolist():
            self._add(row, "amount", "amount names another currency than its row",
                      "correct the mapping of currency")  # fmt: skip
        values, known = split(column)
        if "negative" in spec:
            self._give_back(known & (values < 0), KINDS.index(spec["negative"].upper()))
            values = np.abs(values)
            column = pa.array(values, mask=~known)
        held = currency.dictionary.to_pylist() or [""]
        codes = currency.indices.fill_null(0).to_numpy(zero_copy_only=False)
        scales = np.array([self.rules.currencies.scales.get(code, 1.0) for code in held])[codes]
        base = values if (scales == 1.0).all() else np.where(
            scales == 1.0, values, np.rint(values * scales)
        ).astype(np.int64)  # fmt: skip
        if not known.all():
            self._refuse_unknown("amount", raw, known, "is not a number")
        beyond = known & ((values < 0) | (values > MAX_AMOUNT) | (base > MAX_AMOUNT))
        for row in np.flatnonzero(beyond).tolist():
            code = currency[row].as_py()
            self._check(row, "amount", {"amount": int(values[row]), "currency": code})
        self.columns["amount"] = column
        self.columns["base_amount"] = pa.array(base, mask=~known)

    def _give_back(self, rows: Mask, kind: int) -> None:
        """Make refunds or reversals of rows, whatever their column of kinds says."""
        codes = np.full(self.table.num_rows, PURCHASE, np.int8)
        if "kind" in self.columns:
            held = self.columns["kind"]
            places = [KINDS.index(each or KINDS[PURCHASE]) for each in held.dictionary.to_pylist()]
            which = held.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            codes = np.array([*places, PURCHASE], np.int8)[which]
        codes[rows] = kind
        self.columns["kind"] = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(KINDS))

    def _label(self, spec: dict[str, Any]) -> None:
        raw = self._raw(spec)
        self.columns["label"] = labels(raw, spec)
        delay = duration_ms(spec.get("delay", "0s"))
        when = self.columns["event_time"]
        if "known" in spec:
            given = self._raw({"column": spec["known"]})
            known = times(given, spec)
            for row in np.flatnonzero(self._given(given) & ~split(known)[1]).tolist():
                self._add(row, "label", "the label's time is not a time", "see format and unit",
                          str(spec["known"]))  # fmt: skip
            when = pc.coalesce(known, when)
        self.columns["label_time"] = moments = pc.add(when, pa.scalar(delay, pa.int64()))
        self._check_label_times(moments)
        self.notes += label_doubts(raw, spec)

    def _check_label_times(self, when: Any) -> None:
        """Refuse labels that would be known before their transaction, or never."""
        times_known, known = split(when)
        paid = split(self.columns["event_time"])[0]
        latest = self.rules.now_ms + MAX_LABEL_AHEAD_MS
        beyond = known & ((times_known > latest) | (times_known < paid - MAX_AHEAD_MS))
        for row in np.flatnonzero(beyond).tolist():
            time = int(times_known[row])
            try:
                check_label_time(time, int(paid[row]), self.rules.now_ms, time)
            except InvalidField as error:
                self._refuse(
                    row, "label", error, str(self.mapping.fields["label"].get("known", ""))
                )

    def _look(self, made: pa.Table) -> None:
        """Note columns that hold one value everywhere: a mapping that reads the wrong one does."""
        for name in ("card_id", "merchant_id", "event_time", "amount"):
            column = made.column(name)
            some = len(pc.unique(column.slice(0, MAX_SHOWN))) == 1  # most files end here, cheaply
            if made.num_rows > 1 and some and len(pc.unique(column)) == 1:
                self.notes.append(f"{name} is {masked(repr(column[0].as_py()))} in every row")

    def _raw(self, spec: dict[str, Any]) -> Any:
        if "constant" in spec:
            return pa.repeat(pa.scalar(spec["constant"]), self.table.num_rows)
        if "columns" in spec or "values" in spec:
            return texts(self.table, spec).cast(pa.string())
        return combined(self.table.column(spec["column"]))

    def _given(self, column: Any) -> Mask:
        """Return which cells are neither null nor blank."""
        given = column.is_valid().to_numpy(zero_copy_only=False)
        if is_text(column.type):
            blank = pc.equal(pc.utf8_trim_whitespace(column), "").fill_null(False)
            given = given & ~blank.to_numpy(zero_copy_only=False)
        return np.asarray(given, np.bool_)

    def _refuse_unknown(self, name: str, raw: Any, known: Mask, wrong: str) -> None:
        """Refuse the rows of a required field that no value could be made of."""
        given = self._given(raw)
        self._refuse_missing(name, ~given)
        spec = self.mapping.fields[name]
        for row in np.flatnonzero(given & ~known).tolist():
            advice = "see unit and decimal"
            if name == "event_time":
                advice = remedy(str(self._value(spec, row)), spec)
            self._add(row, name, f"{name} {wrong}", advice)

    def _refuse_missing(self, name: str, missing: Mask) -> None:
        for row in np.flatnonzero(missing).tolist():
            self._add(row, name, f"{name} is missing", "fill it or leave the row out")

    def _check(self, row: int, name: str, record: dict[str, Any]) -> None:
        try:
            read_field(name, record, self.rules)
        except InvalidField as error:
            self._refuse(row, name, error)

    def _refuse(self, row: int, name: str, error: InvalidField, column: str = "") -> None:
        self._add(row, name, error.fault, error.reason.rpartition(": ")[2], column)

    def _add(self, row: int, name: str, kind: str, remedy: str, column: str = "") -> None:
        spec = self.mapping.fields[name]
        where = column or str(spec.get("column") or "+".join(spec.get("columns", [])) or name)
        value = self._cell(column, row) if column else self._value(spec, row)
        self.faults.setdefault(row, fault(row, where, value, kind, remedy))

    def _value(self, spec: dict[str, Any], row: int) -> Any:
        if "generate" in spec or "constant" in spec:
            return spec.get("constant")
        if "columns" in spec:
            joined = spec.get("separator", "-")
            return joined.join(str(self._cell(name, row)) for name in spec["columns"])
        return self._cell(spec["column"], row)

    def _cell(self, column: str, row: int) -> Any:
        cell = self.table.column(column)[row]
        try:
            return cell.as_py()
        except (OverflowError, ValueError):  # a time beyond what Python can say
            return cell.cast(pa.int64() if cell.type.bit_width == 64 else pa.int32()).as_py()
