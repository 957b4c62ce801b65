"""A lasting change of honest behaviour, which begins on `World.drift_day`.

Browsers begin to route purchases through relays in any country, and cardholders buy expensive
goods from new devices at shops that are new to them. To a model that has not seen this it looks
like account takeover, which however comes in bursts, while these are single purchases.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from loadtest.world.places import RESALE_MCCS
from loadtest.world.population import Population
from loadtest.world.rows import ECOM, WorldRows

SHARE: Final = 0.012
"""Share of honest transactions that are made the new way after RAMP_DAYS."""
RAMP_DAYS: Final = 2


def apply_drift(people: Population, seed: int, day: int, since: int, rows: WorldRows) -> WorldRows:
    """Return an honest day in which some purchases are made the new way.

    `since` is the number of days since the change began.
    """
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
