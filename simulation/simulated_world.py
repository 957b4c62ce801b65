"""The load test's generated world as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.traffic.encode import encode_transactions
from loadtest.world.world import World
from schemas.features import HOUR
from simulation.simulation_plan import FIRST_DAY, WARM_UP_DAYS, SimulationPlan, SimulationScenario

NEW_PATTERN: Final = "remote_access"
VERDICT_HOURS: Final = 2.0
"""Median time until an analyst, or the card holder on the phone, settles an alert."""
_COLUMNS: Final = (
    "transaction_id", "card_id", "event_time", "fraud", "scenario", "label", "label_time",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SimulatedWorld:
    """n transactions in event order.

    `messages` are the values on the topic `transactions`. `fraud` is the truth, and `pattern` says
    whether it is of the new kind. `label` says whether somebody reports it as fraud, at
    `label_time`; an alert on it would be settled at `verdict_time`. Times are in ms.
    """

    messages: pa.BinaryArray
    transaction_id: pa.ChunkedArray
    card_id: pa.ChunkedArray
    time: npt.NDArray[np.int64]
    fraud: npt.NDArray[np.bool_]
    pattern: npt.NDArray[np.bool_]
    label: npt.NDArray[np.bool_]
    label_time: npt.NDArray[np.int64]
    verdict_time: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Number of transactions."""
        return len(self.time)

    def rows(self, since: int, until: int) -> range:
        """Return the rows with since <= time < until, in ms."""
        first, last = np.searchsorted(self.time, [since, until])
        return range(int(first), int(last))


def generate(plan: SimulationPlan) -> SimulatedWorld:
    """Return the generated world of a plan; its seed also draws the times of verdicts.

    Blocks for seconds.
    """
    onset = FIRST_DAY + WARM_UP_DAYS + plan.history_days + plan.onset
    people = World(
        plan.customers,
        plan.seed,
        new_pattern_day=onset if plan.scenario == SimulationScenario.NEW_PATTERN else None,
        new_pattern_factor=plan.new_pattern_factor,
        drift_day=onset if plan.scenario == SimulationScenario.DRIFT else None,
        fraud_factor=plan.fraud_factor,
    )
    days = []
    for day in people.days(FIRST_DAY, plan.world_days):
        messages = pa.array(encode_transactions(day).values, pa.binary())
        days.append(day.select(_COLUMNS).append_column("message", messages))
    table = pa.concat_tables(days)
    time = table.column("event_time").to_numpy()
    rng = np.random.default_rng([plan.seed, 11])
    hours = np.clip(VERDICT_HOURS * rng.lognormal(0.0, 0.6, len(time)), 0.25, 24.0)
    scenario = table.column("scenario").cast(pa.string()).combine_chunks()
    return SimulatedWorld(
        messages=table.column("message").combine_chunks(),
        transaction_id=table.column("transaction_id").cast(pa.string()),
        card_id=table.column("card_id").cast(pa.string()),
        time=time,
        fraud=table.column("fraud").to_numpy(),
        pattern=pc.equal(scenario, NEW_PATTERN).to_numpy(zero_copy_only=False),
        label=table.column("label").to_numpy(),
        label_time=table.column("label_time").to_numpy(),
        verdict_time=time + (hours * HOUR).astype(np.int64),
    )
