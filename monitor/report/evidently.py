"""Evidently's HTML report: data drift and classification quality over a period.

The period is compared with the period of the same length before it. Decisions and labels come from
Kafka or from a Parquet file.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from monitor.observe.drift import SCORE
from monitor.observe.labels import decode_labels
from runtime.kafka.protocols import Message
from runtime.kafka.reader import KafkaReader, end_offsets, offsets_at
from runtime.kafka.wire_format import ConfluentRegistry
from runtime.settings import Settings
from schemas.codec.decisions import ACTIONS, decode_decisions
from schemas.codec.vectors import decode_feature_vectors
from schemas.errors import ConfigurationError
from schemas.features import NAMES
from schemas.keys import identities
from schemas.topics import DECISIONS, FEATURES, LABELS, TopicSpec
from schemas.validation import SchemaRegistry

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS: Final = 20_000
"""Rows per period in the report; longer periods are thinned evenly."""
MIN_ROWS: Final = 20
COLUMNS: Final = ("event_time", "amount", "score", "anomaly_score", "decision", "model_id", "fraud")
NUMERICAL: Final = ("amount", "score", "anomaly_score")
CATEGORICAL: Final = ("decision", "model_id")
_PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Monitor report</title>
<style>body { font-family: sans-serif; margin: 1em } iframe { width: 100%; height: 90vh; border: 0 }
</style></head><body>
"""
Progress = Callable[[int], None]


def from_kafka(
    settings: Settings, since_ms: int, until_ms: int, progress: Progress = lambda count: None
) -> pd.DataFrame:
    """Return the decisions that arrived in [since, until), with their labels and features.

    Refunds and reversals are left out, as in training.
    The columns are `COLUMNS` and, if vectors are still retained, the features. `fraud` is NaN
    without a label so far. The whole table is in memory.
    """
    import pandas as pd

    parts = []
    for messages in _read(settings, DECISIONS, since_ms, until_ms, progress):
        decided = decode_decisions([message.value for message in messages])
        frame = pd.DataFrame(
            {
                "transaction": identities(decided.transaction, decided.card),
                "event_time": decided.number("event_time"),
                "amount": decided.number("amount") / 100.0,
                "score": decided.score,
                "anomaly_score": decided.anomaly,
                "decision": np.array(ACTIONS)[decided.action],
                "model_id": [text.decode() for text in decided.raw("model_id")],
            }
        )
        parts.append(frame[~decided.given_back])
    if not parts:
        raise ConfigurationError("that period has no decisions: choose another --from")
    table = pd.concat(parts, ignore_index=True).drop_duplicates("transaction")
    verdicts = read_verdicts(
        _read(settings, LABELS, since_ms, 2**62, progress),
        settings.pan_key,
        ConfluentRegistry.from_settings(settings),
    )
    table["fraud"] = table["transaction"].map(verdicts).astype("float64")
    table = _thinned(table, 2 * MAX_ROWS)
    wanted = set(table["transaction"].tolist())
    features = []
    for messages in _read(settings, FEATURES, since_ms, until_ms, progress):
        vectors = decode_feature_vectors([message.value for message in messages])
        transactions = identities(vectors.transaction_hash, vectors.card_hash)
        kept = np.isin(transactions, np.array(list(wanted), np.uint64)) & vectors.known
        found = pd.DataFrame(vectors.matrix[kept], columns=list(NAMES))
        found["transaction"] = transactions[kept]
        features.append(found.drop(columns="amount"))
    if features:
        joined = pd.concat(features, ignore_index=True).drop_duplicates("transaction")
        table = table.merge(joined, on="transaction", how="left")
    return table.drop(columns="transaction")


def read_verdicts(
    batches: Iterable[Sequence[Message]], pan_key: bytes | None, registry: SchemaRegistry | None
) -> dict[int, bool]:
    """Return by transaction (`schemas.keys.identities`) whether its newest label says fraud.

    Of equally new labels the last one counts. They are those that the stream processor accepts, so
    it takes the same `pan_key`.
    """
    newest: dict[int, tuple[int, bool]] = {}
    for messages in batches:
        labels = decode_labels(messages, pan_key=pan_key, registry=registry)
        columns = (labels.identity, labels.known_at, labels.fraud)
        for transaction, known_at, fraud in zip(*(c.tolist() for c in columns), strict=True):
            if known_at >= newest.get(transaction, (known_at, fraud))[0]:
                newest[transaction] = known_at, fraud
    return {transaction: fraud for transaction, (_, fraud) in newest.items()}


def from_parquet(path: Path) -> pd.DataFrame:
    """Read a table with `COLUMNS` (fraud may be null) and any of the features.

    Raises:
        ConfigurationError: the file is not readable, or lacks a column.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--input {path} is not a readable Parquet file: {error}"
        ) from error
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise ConfigurationError(
            f"--input {path} lacks {', '.join(missing)}: it must have {', '.join(COLUMNS)}"
        )
    table["fraud"] = table["fraud"].astype("float64")
    return table


def write(table: pd.DataFrame, since_ms: int, until_ms: int, output: Path) -> dict[str, int]:
    """Write the report on [since, until) against the rows before; return both row counts.

    Raises:
        ConfigurationError: a period has too few decisions, or the file cannot be written.
    """
    inside = (table["event_time"] >= since_ms) & (table["event_time"] < until_ms)
    current, before = table[inside], table[table["event_time"] < since_ms]
    if min(len(current), len(before)) < MIN_ROWS:
        raise ConfigurationError(
            f"{len(current)} decisions in the period and {len(before)} before it, but "
            f"{MIN_ROWS} each are needed: choose another --from and --to"
        )
    page = _page(_thinned(before, MAX_ROWS), _thinned(current, MAX_ROWS))
    try:
        output.write_text(page)
    except OSError as error:
        raise ConfigurationError(f"--output {output}: {error}") from error
    return {"current": len(current), "reference": len(before)}


def _page(before: pd.DataFrame, current: pd.DataFrame) -> str:
    from evidently import BinaryClassification, DataDefinition, Dataset, Report
    from evidently.presets import ClassificationPreset, DataDriftPreset

    def dataset(table: pd.DataFrame, columns: Sequence[str], **more: Any) -> Dataset:
        texts = [name for name in columns if name in CATEGORICAL]
        numbers = [name for name in columns if name not in CATEGORICAL]
        return Dataset.from_pandas(
            table[list(columns)],
            data_definition=DataDefinition(
                numerical_columns=numbers, categorical_columns=texts, **more
            ),
        )

    columns = [
        name
        for name in dict.fromkeys((*NUMERICAL, *CATEGORICAL, *NAMES))
        if name in current and current[name].notna().any() and before[name].notna().any()
    ]
    drift = Report([DataDriftPreset()]).run(dataset(current, columns), dataset(before, columns))
    pages = {"Data drift": drift.get_html_str(as_iframe=False)}
    judged = [table[table["fraud"].notna() & table[SCORE].notna()] for table in (current, before)]
    if all(table["fraud"].nunique() == 2 for table in judged):
        binary = BinaryClassification(
            target="fraud", prediction_labels="alert", pos_label=1,
        )  # fmt: skip
        both = []
        for table in judged:
            marked = table.assign(
                fraud=table["fraud"].astype(int), alert=(table["decision"] != "APPROVE").astype(int)
            )
            both.append(
                Dataset.from_pandas(
                    marked[["fraud", "alert"]],
                    data_definition=DataDefinition(classification=[binary]),
                )
            )
        quality = Report([ClassificationPreset()]).run(*both)
        pages["Classification"] = quality.get_html_str(as_iframe=False)
    return _PAGE + "".join(
        f'<h2>{title}</h2><iframe srcdoc="{html.escape(page)}"></iframe>'
        for title, page in pages.items()
    )


def _thinned(table: pd.DataFrame, max_rows: int) -> pd.DataFrame:
    return table if len(table) <= max_rows else table.iloc[:: -(-len(table) // max_rows)]


def _read(
    settings: Settings, spec: TopicSpec, since_ms: int, until_ms: int, progress: Progress
) -> list[list[Message]]:
    """Return the retained messages that arrived in [since, until), in batches."""
    topic = settings.topic(spec)
    ends = end_offsets(settings, topic)
    reader = KafkaReader(settings, topic, offsets_at(settings, topic, since_ms))
    open_ = {number for number, at in reader.positions().items() if at < ends[number]}
    batches = []
    try:
        while open_:
            messages = reader.poll_batch(10_000, 0.5)
            kept = [message for message in messages if message.timestamp < until_ms]
            open_ -= {message.partition for message in messages if message.timestamp >= until_ms}
            open_ = {number for number in open_ if reader.positions()[number] < ends[number]}
            progress(len(messages))
            if kept:
                batches.append(kept)
    finally:
        reader.close()
    return batches
