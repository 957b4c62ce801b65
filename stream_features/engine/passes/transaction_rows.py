"""The pass over the transactions themselves, for features that need no state."""

from __future__ import annotations

import numpy as np

from schemas.compiled import compiled
from schemas.features import DAY, HOUR
from stream_features.engine.passes.workspace import write_features


@compiled
def transaction_rows(plan, columns, scratch, vectors):  # type: ignore[no-untyped-def]
    """Fill the transaction features of n vectors (float32[n, features])."""
    n_windows = len(plan.windows)
    for row in range(len(columns.time)):
        time = columns.time[row]
        hour = (time // HOUR) % 24
        weekday = (time // DAY + 3) % 7
        amount = columns.amount[row]
        mcc = columns.mcc[row]
        card_country = columns.card_country[row]
        ip_country = columns.ip_country[row]
        merchant_country = columns.merchant_country[row]
        scratch[0] = amount / 100
        scratch[1 * n_windows] = amount % 100 == 0
        scratch[2 * n_windows] = hour
        scratch[3 * n_windows] = weekday
        scratch[4 * n_windows] = weekday >= 5
        scratch[5 * n_windows] = hour <= 6
        scratch[6 * n_windows] = columns.channel[row]
        scratch[7 * n_windows] = mcc if mcc >= 0 else np.nan
        known = card_country != 0
        ip_differs = 1.0 if ip_country != card_country else 0.0
        merchant_differs = 1.0 if merchant_country != card_country else 0.0
        scratch[8 * n_windows] = ip_differs if known and ip_country != 0 else np.nan
        scratch[9 * n_windows] = merchant_differs if known and merchant_country != 0 else np.nan
        write_features(plan, scratch, vectors[row])
