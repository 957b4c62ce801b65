"""Writes history of the world as a Parquet file with labels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from loadtest.traffic.encode import encode_transactions
from loadtest.world.world import World
from schemas.errors import ConfigurationError

MAPPING: Final = Path(__file__).parents[1] / "mappings" / "generator.yaml"


class HistoryCounts(NamedTuple):
    """Transactions by day, frauds, and transactions reported as fraud."""

    rows: list[int]
    frauds: int
    reported: int


def write_history(
    world: World,
    first_day: int,
    days: int,
    path: Path,
    progress: Callable[[int], None] = lambda day: None,
    *,
    messages: bool = False,
) -> HistoryCounts:
    """Write `days` whole days in event order; the file appears only when it is complete.

    Args:
        progress: is called after each day with the number of days written.
        messages: adds a column `message` with the Avro message of each transaction.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    rows: list[int] = []
    frauds = reported = 0
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            writer: pq.ParquetWriter | None = None
            for table in world.days(first_day, days):
                if messages:
                    values = pa.array(encode_transactions(table).values, pa.binary())
                    table = table.append_column("message", values)
                if writer is None:
                    writer = stack.enter_context(pq.ParquetWriter(partial, table.schema))
                writer.write_table(table)
                rows.append(table.num_rows)
                frauds += table.column("fraud").to_numpy().sum()
                reported += table.column("label").to_numpy().sum()
                progress(len(rows))
        partial.rename(path)
    except OSError as error:
        raise ConfigurationError(f"cannot write --output {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return HistoryCounts(rows, int(frauds), int(reported))
