"""Tables as a mapping reads them, all of whose rows can be used."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from runtime.clock import SystemClock
from schemas.currency import CurrencyTable
from schemas.mapping.document import Mapping
from schemas.mapping.mapped import apply
from schemas.rules.transaction import Rules


def mapped(mapping: Path, table: pa.Table) -> pa.Table:
    """Return the table under our field names; fails for a row that is rejected."""
    rules = Rules.at(SystemClock().now_ms(), CurrencyTable())
    found = apply(Mapping.load(mapping), table, rules)
    assert found.faults == []
    return found.table
