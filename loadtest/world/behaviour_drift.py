"""Honest behaviour that changes for good: the drift of `World.drift_day`. Pure.

Relay shopping: browsers begin to send purchases through relays in any country, and holders buy
dear things at shops new to them through new devices, one purchase at a time. To a model that has
not seen it, it looks like a stolen account; its bursts tell that one apart.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from loadtest.world.places import RESALE_MCCS
from loadtest.world.population import Population
from loadtest.world.rows import ECOM, WorldRows

SHARE: Final = 0.012
"""Of honest transactions, once everybody who will has changed."""
RAMP_DAYS: Final = 2


def drifted(people: Population, seed: int, day: int, since: int, rows: WorldRows) -> WorldRows:
    """Return an honest day with some purchases made the new way, `since` days after the onset."""
    rng = np.random.default_rng([seed, 7, day])
    share = SHARE * min((since + 1) / RAMP_DAYS, 1.0)
    chosen = np.flatnonzero((rng.random(len(rows.time)) < share) & (rows.scenario == 0))
    n = len(chosen)
    changed = {
        "merchant": rng.choice(people.of_category(RESALE_MCCS, online=True), n),
        "amount": np.rint(rng.lognormal(9.6, 0.5, n)).astype(np.int64),
        "channel": np.full(n, ECOM, np.int8),
        "device": people.fraud_device(rng, n),
        "ip": people.hosting_address(rng, n),
        "located": np.zeros(n, np.bool_),
    }
    columns = rows._asdict()
    for name, values in changed.items():
        columns[name] = columns[name].copy()
        columns[name][chosen] = values
    return WorldRows(**columns)
