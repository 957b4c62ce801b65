"""Files of the Fraud Detection Handbook: its columns, and the features published with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from runtime.files.intake import read_transactions, rules_of
from runtime.files.tables import column_names
from runtime.settings import load_settings
from schemas.columns import TransactionColumns
from schemas.errors import ConfigurationError
from schemas.mapping.document import Mapping
from stream_features.offline.transaction_table import hashed_ids

_LABEL: Final = {"fraud": 1, "delay": "7d"}
MAPPINGS: Final = (
    Mapping(
        "of the handbook's columns",
        {
            "transaction_id": {"column": "TRANSACTION_ID"},
            "event_time": {"column": "TX_DATETIME"},
            "card_id": {"column": "CUSTOMER_ID"},
            "merchant_id": {"column": "TERMINAL_ID"},
            "amount": {"column": "TX_AMOUNT", "unit": "major"},
            "currency": {"constant": "EUR"},
            "label": {"column": "TX_FRAUD", **_LABEL},
        },
    ),
    Mapping(
        "of the handbook's columns, amounts in cents",
        {
            "transaction_id": {"column": "tx_id"},
            "event_time": {"column": "tx_time", "unit": "s"},
            "card_id": {"column": "customer_id"},
            "merchant_id": {"column": "terminal_id"},
            "amount": {"column": "amount_cents", "unit": "minor"},
            "currency": {"constant": "EUR"},
            "label": {"column": "fraud", **_LABEL},
        },
    ),
)
"""What the files are called as the simulator writes them, and in short."""


def read_mapped(path: Path, mapping_path: Path | None) -> tuple[pa.Table, Mapping]:
    """Return a file under our field names, and the mapping; None: the handbook's own columns.

    Raises:
        ConfigurationError: unreadable, or the mapping does not fit.
    """
    rules = rules_of(load_settings())
    if mapping_path is not None:
        mapping = Mapping.load(mapping_path)
        return read_transactions(path, mapping, rules).table, mapping
    names = column_names(path)
    for mapping in MAPPINGS:
        if set(mapping.columns()) <= set(names):
            return read_transactions(path, mapping, rules).table, mapping
    raise ConfigurationError(
        f"{path} has neither of the handbook's sets of columns, "
        f"{' or '.join(str(mapping.columns()) for mapping in MAPPINGS)}: say by --mapping what its "
        "columns mean"
    )


def published_features(
    path: Path, mapping: Mapping, transactions: TransactionColumns
) -> npt.NDArray[np.float32]:
    """Return float32[n, k]: another's features of `transactions`, in their order, and the amount.

    The file is a Parquet file with the transaction id under the name that it has in the data; every
    other column is a feature.

    Raises:
        ConfigurationError: unreadable, no id, a column that is not a number, an absent transaction.
    """
    key = mapping.fields["transaction_id"].get("column")
    try:
        table = pa.parquet.read_table(path, memory_map=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigurationError(f"--published {path}: {error}") from error
    if key not in table.column_names:
        raise ConfigurationError(
            f"--published {path} has no column {key!r} with the transaction id, it has "
            f"{table.column_names}"
        )
    hashes = hashed_ids(table.column(key))
    sorter = np.argsort(hashes)
    place = np.searchsorted(hashes, transactions.transaction, sorter=sorter)
    rows = sorter[np.minimum(place, len(sorter) - 1)] if len(sorter) else np.zeros(0, np.int64)
    absent = transactions.rows - int(len(rows) and (hashes[rows] == transactions.transaction).sum())
    if absent:
        raise ConfigurationError(
            f"--published {path} lacks {absent} of the {transactions.rows} transactions of --data: "
            "give the features of the same data"
        )
    names = [name for name in table.column_names if name != key]
    columns: list[Any] = [_numbers(path, table, name)[rows] for name in names]
    columns.append(transactions.amount / 100)
    return np.column_stack(columns).astype(np.float32)


def _numbers(path: Path, table: pa.Table, name: str) -> npt.NDArray[np.float32]:
    try:
        column = table.column(name).cast(pa.float64()).fill_null(np.nan)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigurationError(
            f"--published {path}, column {name!r}: {error}; a feature is a number"
        ) from error
    return np.asarray(column.to_numpy(), np.float32)
