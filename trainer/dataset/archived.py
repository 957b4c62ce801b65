"""Training data from the archive: logged vectors joined to the labels known at a cut-off.

The table versions in the provenance give the same rows again, whatever was appended or compacted
since, and with the same arguments the same content hash.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import ConfigurationError
from schemas.features import DAY, FINGERPRINT, VECTOR_SIZE
from schemas.mapping.event_order import event_order
from stream_features.offline.transaction_table import table_columns
from trainer.archive.delta_tables import Archive
from trainer.dataset.dataset import Dataset
from trainer.dataset.immature_labels import immature_weights

SOURCES: Final = ("features", "labels")
"""Tables that a dataset is made of."""
ANALYST: Final = "ANALYST"
"""Source of a label that settles an alert."""
_KEY: Final = ["card_id", "transaction_id"]
_COLUMNS: Final = (
    "source_partition", "source_offset", "event_time", "vector", "amount", "mcc", "channel",
    "latitude", "longitude", "transaction_id", "card_id", "merchant_id", "device_id", "ip",
    "ip_country", "card_country", "merchant_country", "kind",
)  # fmt: skip


def from_archive(
    archive: Archive,
    *,
    cutoff_ms: int,
    maturity_ms: int,
    since_ms: int | None = None,
    versions: Mapping[str, int] | None = None,
    early: bool = False,
    silence_ms: int | None = None,
    now_ms: int | None = None,
) -> tuple[Dataset, dict[str, Any]]:
    """Return the transactions that are mature at the cut-off, in event order, and the provenance.

    Mature is what happened at most at `cutoff_ms - maturity_ms`, and from `since_ms` on. Its label
    is the newest (by `label_time`, then by order of arrival) with `label_time <= cutoff_ms`;
    without one it is genuine, known when it became mature. Vectors of duplicates, of late
    transactions, of refunds and reversals, and of another feature catalogue are left out and
    counted. `versions` (of SOURCES) reads the tables as they were. `now_ms` is the time now, by
    default the machine's.

    `early` adds the younger ones as the dataset's `immature` rows, see `immature_weights`. With
    `silence_ms`, labels that have stopped for longer are not taken for the absence of fraud: what
    became mature since the newest label and that time is not mature.

    The provenance can be written as JSON: the arguments, `versions`, `counts` and `sha256`.

    Raises:
        ConfigurationError: the cut-off is in the future, there is no archive, a version is gone, or
            nothing is left.
        ArchiveUnavailable: the storage failed.
    """
    now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    if cutoff_ms > now:
        raise ConfigurationError(
            f"the cut-off {_date(cutoff_ms)} is in the future (now {_date(now)}): labels until "
            "then are not known yet; give an earlier one"
        )
    if versions is None:
        newest = archive.versions()
        versions = {name: newest[name] for name in SOURCES}
    missing = [name for name in SOURCES if name not in versions]
    if missing:
        raise ConfigurationError(f"versions {dict(versions)} lack the tables {missing}")
    labels = _labels(archive, versions["labels"], cutoff_ms)
    mature = cutoff_ms - maturity_ms
    if silence_ms is not None and len(labels):
        newest_label = int(labels["label_time"].max())  # type: ignore[arg-type]
        mature = min(mature, newest_label + silence_ms - maturity_ms)
    until = cutoff_ms if early else mature
    features, counts = _features(archive, versions["features"], since_ms, until)
    order = event_order(features)
    verdict, label_time, settled = _joined(features.take(pa.array(order)), labels)
    times = features.column("event_time").to_numpy()[order]
    columns = table_columns(features, order)
    weight = None
    if early:
        weight = immature_weights(
            columns.time, columns.card, verdict, label_time, settled,
            mature_ms=mature, cutoff_ms=cutoff_ms,
        )  # fmt: skip
        kept = np.flatnonzero(weight > 0)
        order, verdict, label_time = order[kept], verdict[kept], label_time[kept]
        times, columns, weight = times[kept], columns.take(kept), weight[kept]
        settled = settled[kept]
    immature = int((times > mature).sum())
    unlabelled = label_time < 0
    counts |= {
        "labelled": int((~unlabelled).sum()),
        "unlabelled_taken_as_genuine": int(unlabelled.sum()),
        "rows": len(order),
        "frauds": int(verdict.sum()),
    }
    if early:
        counts["young"] = immature
    counts["labels_before_transactions"] = int((~unlabelled & (label_time < times)).sum())
    data = Dataset(
        columns,
        _vectors(features.column("vector"), order),
        verdict,
        np.where(unlabelled, times + maturity_ms, label_time),
        immature,
        weight,
        settled if early else None,
    )
    return data, {
        "archive": archive.url,
        "versions": {name: versions[name] for name in SOURCES},
        "cutoff_ms": cutoff_ms,
        "maturity_ms": maturity_ms,
        "since_ms": since_ms,
        "early": early,
        "silence_ms": silence_ms,
        "fingerprint": FINGERPRINT.hex(),
        "counts": counts,
        "sha256": content_hash(data),
    }


def content_hash(data: Dataset) -> str:
    """Return the SHA-256 over every array of the dataset: name, type, shape and bytes.

    `kind` counts only if there are others than purchases, so that older runs keep their hash.
    """
    digest = hashlib.sha256()
    columns = data.transactions._asdict()
    if not data.transactions.kind.any():
        del columns["kind"]
    arrays: dict[str, npt.NDArray[Any]] = {
        **columns,
        "vectors": data.vectors,
        "fraud": data.fraud,
        "label_time": data.label_time,
    }
    for name, optional in (("weight", data.weight), ("settled", data.settled)):
        if optional is not None:
            arrays[name] = optional
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _features(
    archive: Archive, version: int, since_ms: int | None, mature: int
) -> tuple[pa.Table, dict[str, int]]:
    """Return the usable rows by position, and how many were left out why."""
    day = pa.scalar(mature // DAY, pa.int32()).cast(pa.date32())
    where = (pc.field("event_date") <= day) & (pc.field("event_time") <= mature)
    if since_ms is not None:
        first = pa.scalar(since_ms // DAY, pa.int32()).cast(pa.date32())
        where &= (pc.field("event_date") >= first) & (pc.field("event_time") >= since_ms)
    flags = archive.read(
        "features",
        version=version,
        columns=["duplicate", "late", "fingerprint", "kind"],
        where=where,
    )
    foreign = pc.not_equal(flags.column("fingerprint"), pa.scalar(FINGERPRINT, pa.binary()))
    back = _given_back(flags)
    unusable = pc.or_(foreign, pc.or_(flags.column("duplicate"), flags.column("late")))
    unusable = pc.or_(unusable, back)
    counts = {
        "duplicates": _count(flags.column("duplicate")),
        "late": _count(flags.column("late")),
        "refunds_and_reversals": _count(back),
        "foreign_fingerprint": _count(foreign),
    }
    if _count(unusable) == flags.num_rows:
        raise _nothing_left(archive, flags.num_rows, counts, mature, since_ms)
    usable = (
        where
        & ~pc.field("duplicate")
        & ~pc.field("late")
        & (pc.field("fingerprint") == pa.scalar(FINGERPRINT, pa.binary()))
        & (pc.binary_length(pc.field("vector")) == 4 * VECTOR_SIZE)
    )
    table = archive.read("features", version=version, columns=_COLUMNS, where=usable)
    table = table.filter(pc.invert(_given_back(table)))
    # Files come in any order: event_order leaves what it cannot tell apart as it stands.
    place = [("source_partition", "ascending"), ("source_offset", "ascending")]
    order = pc.sort_indices(table.select([name for name, _ in place]), place)
    return table.take(order), counts


def _given_back(table: pa.Table) -> Any:
    """Return which rows are refunds and reversals; rows older than kinds are purchases."""
    return pc.is_in(table.column("kind"), pa.array(["REFUND", "REVERSAL"]))


def _nothing_left(
    archive: Archive, rows: int, counts: dict[str, int], mature: int, since_ms: int | None
) -> ConfigurationError:
    if not rows and since_ms is not None:
        return ConfigurationError(
            f"the archive {archive.url} has no transaction from {_date(since_ms)} (--since) to "
            f"{_date(mature)}, the cut-off less the label maturity: give an earlier --since"
        )
    if not rows:
        return ConfigurationError(
            f"the archive {archive.url} has no transaction up to {_date(mature)}, the cut-off less "
            "the label maturity: let the archiver run longer, or train from a file (bootstrap)"
        )
    return ConfigurationError(
        f"none of {rows:,} archived vectors can be used ({counts}): those of another feature "
        f"catalogue than {FINGERPRINT.hex()} were computed by another version of the engine; train "
        "from a file (bootstrap) or wait for new ones"
    )


def _labels(archive: Archive, version: int, cutoff_ms: int) -> pl.DataFrame:
    """Return one row a transaction: the newest label known at the cut-off.

    It is `settled` if an analyst gave one, whoever else reported it afterwards.
    """
    table = archive.read(
        "labels",
        version=version,
        columns=[*_KEY, "label", "label_time", "source", "topic_partition", "topic_offset"],
        where=pc.field("label_time") <= cutoff_ms,
    )
    frame: Any = pl.from_arrow(table)
    newest: pl.DataFrame = (
        frame.with_columns(settled=(pl.col("source") == ANALYST).any().over(_KEY))
        .sort("label_time", "topic_partition", "topic_offset")
        .unique(subset=_KEY, keep="last")
        .select(*_KEY, (pl.col("label") == "FRAUD").alias("fraud"), "label_time", "settled")
    )
    return newest


def _joined(
    features: pa.Table, labels: pl.DataFrame
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return of each row: fraud, label time (-1 without a label), whether an analyst gave one."""
    keys: Any = pl.from_arrow(features.select(_KEY))
    found = keys.with_row_index("row").join(labels, on=_KEY, how="left").sort("row")
    fraud = found["fraud"].fill_null(False).to_numpy()
    label_time = found["label_time"].fill_null(-1).to_numpy()
    settled = found["settled"].fill_null(False).to_numpy()
    return fraud.astype(np.bool_), label_time.astype(np.int64), settled.astype(np.bool_)


def _vectors(column: pa.ChunkedArray, order: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the vectors as float32[n, 70] in the given order."""
    whole = np.empty((len(column), VECTOR_SIZE), np.float32)
    row = 0
    for chunk in column.chunks:
        data = np.frombuffer(chunk.buffers()[2], np.uint8) if len(chunk) else np.zeros(0, np.uint8)
        offsets = (
            np.frombuffer(chunk.buffers()[1], np.int32) if len(chunk) else np.zeros(1, np.int32)
        )
        first = int(offsets[chunk.offset]) if len(chunk) else 0
        size = 4 * VECTOR_SIZE * len(chunk)
        part = data[first : first + size].view("<f4").reshape(len(chunk), VECTOR_SIZE)
        whole[row : row + len(chunk)] = part
        row += len(chunk)
    return whole[order]


def _count(mask: Any) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _date(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
