"""Kafka messages of `features`, `decisions` and `labels` to rows of the archive's tables. Pure.

Messages that cannot be read are left out and returned as rejected: the services that serve these
topics have dead-lettered them already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.codec.transactions_kernel import EARLIEST_MS, TEXT_FIELDS
from schemas.codec.vectors import DecodedVectors, decode_feature_vectors
from schemas.columns import CHANNELS, KINDS
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, ConfigurationError, InvalidField, Rejected, UnknownSchema
from schemas.features import DAY
from schemas.validation import SchemaRegistry, read_label
from trainer.archive.avro_block import read_block

Ints = npt.NDArray[np.int64]
LATEST: Final = 4_102_444_800_000
"""Event times from here on (the year 2100) are damage, not transactions: they name a folder."""
_REASON: Final = pa.struct(
    [("code", pa.string()), ("text", pa.string()), ("contribution", pa.float64())]
)
_SHADOW: Final = pa.struct([("model_id", pa.string()), ("score", pa.float64())])
_PLACE: Final = [
    ("event_date", pa.date32()),
    ("topic_partition", pa.int32()),
    ("topic_offset", pa.int64()),
]
_SOURCE: Final = [("source_partition", pa.int32()), ("source_offset", pa.int64())]
FEATURES: Final = pa.schema(
    [
        *_PLACE, *_SOURCE, ("event_time", pa.int64()), ("received_at", pa.int64()),
        ("computed_at", pa.int64()), ("duplicate", pa.bool_()), ("late", pa.bool_()),
        ("fingerprint", pa.binary()), ("vector", pa.binary()), ("amount", pa.int64()),
        ("original_amount", pa.int64()), ("mcc", pa.int32()), ("channel", pa.string()),
        ("latitude", pa.float64()), ("longitude", pa.float64()),
        *((name, pa.string()) for name in TEXT_FIELDS), ("kind", pa.string()),
    ]
)  # fmt: skip
"""`vector` is the message's own: little-endian float32 in the order of the catalogue `fingerprint`.
`amount` is in minor units of the base currency, `original_amount` of `currency`. Times are ms,
`computed_at` µs."""
DECISIONS: Final = pa.schema(
    [
        *_PLACE, *_SOURCE, ("transaction_id", pa.string()), ("card_id", pa.string()),
        ("merchant_id", pa.string()), ("event_time", pa.int64()), ("amount", pa.int64()),
        ("currency", pa.string()), ("decision", pa.string()), ("score", pa.float64()),
        ("anomaly_score", pa.float64()), ("model_id", pa.string()), ("model_role", pa.string()),
        ("policy_version", pa.string()), ("duplicate", pa.bool_()), ("late", pa.bool_()),
        ("degraded", pa.string()), ("rule_hits", pa.list_(pa.string())),
        ("reasons", pa.list_(_REASON)), ("shadows", pa.list_(_SHADOW)),
        ("received_at", pa.int64()), ("computed_at", pa.int64()), ("decided_at", pa.int64()),
        ("kind", pa.string()), ("unread", pa.list_(pa.string())),
    ]
)  # fmt: skip
"""The fields of a Decision as they are; `amount` in minor units of `currency`."""
LABELS: Final = pa.schema(
    [
        *_PLACE, ("transaction_id", pa.string()), ("card_id", pa.string()),
        ("label", pa.string()), ("source", pa.string()), ("transaction_time", pa.int64()),
        ("label_time", pa.int64()),
    ]
)  # fmt: skip
"""Every label event, also those that a later one overrules."""
SCHEMAS: Final = {"features": FEATURES, "decisions": DECISIONS, "labels": LABELS}


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of a table in the order of their messages; `rejected` names messages by their place."""

    table: pa.Table
    rejected: list[Rejected]

    def column(self, name: str) -> Ints:
        """Return a whole-number column."""
        return np.asarray(self.table.column(name).to_numpy(), np.int64)

    def take(self, chosen: npt.NDArray[np.bool_]) -> TableRows:
        """Return the rows where `chosen` is true."""
        return (
            self if chosen.all() else TableRows(self.table.filter(pa.array(chosen)), self.rejected)
        )


def feature_rows(messages: Sequence[Message], currencies: CurrencyTable) -> TableRows:
    """Return the rows of `features` messages, vectors of another catalogue included.

    Raises:
        ConfigurationError: a currency has no rate, so that its amounts cannot be converted.
    """
    vectors = decode_feature_vectors([message.value for message in messages])
    rejected = list(vectors.rejected)
    partition, offset = _places(messages)
    right, wrong = _in_place(
        vectors.rows, vectors.source_partition, vectors.event_time, partition[vectors.rows]
    )
    if wrong:
        rejected += wrong
        vectors = vectors.take(np.flatnonzero(right))
    texts = {name: _texts(vectors, vectors.text_spans(name)) for name in TEXT_FIELDS}
    columns = {
        "event_date": _dates(vectors.event_time),
        "topic_partition": partition[vectors.rows],
        "topic_offset": offset[vectors.rows],
        "source_partition": vectors.source_partition,
        "source_offset": vectors.source_offset,
        "event_time": vectors.event_time,
        "received_at": vectors.received_at,
        "computed_at": vectors.computed_at,
        "duplicate": vectors.flags & 1 != 0,
        "late": vectors.flags & 2 != 0,
        "fingerprint": _binary(vectors, vectors.fingerprint_spans),
        "vector": _binary(vectors, vectors.vector_spans),
        "amount": _base_amounts(vectors.amount, texts["currency"], currencies),
        "original_amount": vectors.amount,
        "mcc": pa.array(vectors.mcc.astype(np.int32), mask=vectors.mcc < 0),
        "channel": pa.DictionaryArray.from_arrays(
            pa.array(vectors.channel.astype(np.int8)), pa.array(CHANNELS)
        ),
        "kind": pa.DictionaryArray.from_arrays(
            pa.array(vectors.kind.astype(np.int8)), pa.array(KINDS)
        ),
        "latitude": pa.array(vectors.latitude, mask=np.isnan(vectors.latitude)),
        "longitude": pa.array(vectors.longitude, mask=np.isnan(vectors.longitude)),
        **texts,
    }
    return TableRows(_table(columns, FEATURES), _in_order(rejected))


def decision_rows(messages: Sequence[Message]) -> TableRows:
    """Return the rows of `decisions` messages."""
    frame = read_block("Decision", messages)
    kept, rejected = np.arange(len(messages)), list[Rejected]()
    if frame is None:
        kept, records, rejected = _read_each("Decision", messages)
        columns = {
            name: pa.array([record[name] for record in records], DECISIONS.field(name).type)
            for name in DECISIONS.names
            if name not in dict(_PLACE)
        }
    else:
        columns = {name: frame.column(name) for name in frame.column_names}
    partition, offset = _places(messages)
    time = np.asarray(columns["event_time"].to_numpy(zero_copy_only=False), np.int64)
    source = np.asarray(columns["source_partition"].to_numpy(zero_copy_only=False), np.int64)
    right, wrong = _in_place(kept, source, time, partition[kept])
    columns["event_date"] = _dates(np.where(right, time, 0))
    columns["topic_partition"], columns["topic_offset"] = partition[kept], offset[kept]
    rows = TableRows(_table(columns, DECISIONS), _in_order(rejected + wrong))
    return rows.take(right)


def label_rows(
    messages: Sequence[Message],
    *,
    pan_key: bytes | None = None,
    registry: SchemaRegistry | None = None,
) -> TableRows:
    """Return the rows of `labels` messages, checked and card numbers tokenised as by the engine.

    Blocks only if `registry` has to fetch a schema.
    """
    rejected: list[Rejected] = []
    labels, kept = [], []
    for row, message in enumerate(messages):
        try:
            label = read_label(
                message.value or b"", now_ms=message.arrived, pan_key=pan_key, registry=registry
            )
        except BadMessage as error:
            rejected.append((row, error))
        else:
            labels.append(label)
            kept.append(row)
    partition, offset = _places(messages)
    rows = np.array(kept, np.int64)
    time = np.array([label["transaction_time"] for label in labels], np.int64)
    columns: dict[str, Any] = {
        name: pa.array([label[name] for label in labels], LABELS.field(name).type)  # type: ignore[literal-required]
        for name in LABELS.names
        if name not in dict(_PLACE)
    }
    columns["event_date"] = _dates(time)
    columns["topic_partition"], columns["topic_offset"] = partition[rows], offset[rows]
    return TableRows(_table(columns, LABELS), rejected)


def _read_each(
    name: str, messages: Sequence[Message]
) -> tuple[Ints, list[dict[str, Any]], list[Rejected]]:
    """Decode by the reference codec: places of the good ones, their records, and the others."""
    kept, records, rejected = [], [], list[Rejected]()
    for row, message in enumerate(messages):
        try:
            found, record = avro.decode(message.value or b"")
            if found != name:
                raise UnknownSchema(f"a {found} where a {name} belongs")
        except BadMessage as error:
            rejected.append((row, error))
        else:
            kept.append(row)
            records.append(record)
    return np.array(kept, np.int64), records, rejected


def _places(messages: Sequence[Message]) -> tuple[Ints, Ints]:
    count = len(messages)
    return (
        np.fromiter((message.partition for message in messages), np.int64, count),
        np.fromiter((message.offset for message in messages), np.int64, count),
    )


def _in_place(
    rows: Ints, source: Ints, time: Ints, actual: Ints
) -> tuple[npt.NDArray[np.bool_], list[Rejected]]:
    """Tell the rows that came in the partition that they name, at a time that can be."""
    right = (source == actual) & (time >= EARLIEST_MS) & (time < LATEST)
    wrong = [
        (
            int(rows[place]),
            InvalidField(
                f"source_partition {source[place]} in partition {actual[place]}, event_time "
                f"{time[place]}: one of them cannot be",
                field="source_partition",
                value=int(source[place]),
            ),
        )
        for place in np.flatnonzero(~right).tolist()
    ]
    return right, list[Rejected](wrong)


def _in_order(rejected: list[Rejected]) -> list[Rejected]:
    return sorted(rejected, key=lambda item: item[0])


def _dates(time: Ints) -> pa.Array:
    return pa.array((time // DAY).astype(np.int32)).view(pa.date32())


def _binary(vectors: DecodedVectors, spans: Ints) -> pa.Array:
    data, offsets = vectors.gathered(spans)
    return pa.Array.from_buffers(
        pa.binary(), len(vectors), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def _texts(vectors: DecodedVectors, spans: Ints) -> pa.Array:
    """Return a text field; the kernel that found its spans has checked that it is UTF-8."""
    data, offsets = vectors.gathered(spans)
    missing = spans[:, 0] == spans[:, 1]
    present = pa.py_buffer(np.packbits(~missing, bitorder="little")) if missing.any() else None
    return pa.Array.from_buffers(
        pa.string(), len(vectors), [present, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def _base_amounts(amount: Ints, currency: pa.Array, currencies: CurrencyTable) -> Ints:
    codes = currency.dictionary_encode()
    names = codes.dictionary.to_pylist()
    unknown = sorted(set(names) - set(currencies.scales))
    if unknown:
        raise ConfigurationError(
            f"no rate for {', '.join(unknown)}, which transactions were served in: give the "
            "archiver the FRAUD_CURRENCY_RATES of the stream processor"
        )
    scale = np.array([currencies.scales[name] for name in names])
    if (scale == 1.0).all():
        return amount
    factor = scale[codes.indices.to_numpy(zero_copy_only=False)]
    return np.where(factor == 1.0, amount, np.rint(amount * factor)).astype(np.int64)


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    def typed(name: str, kind: pa.DataType) -> Any:
        column = columns[name]
        if isinstance(column, np.ndarray):
            column = pa.array(column)
        return column if column.type == kind else column.cast(kind)

    return pa.table([typed(field.name, field.type) for field in schema], schema=schema)
