"""The generated world as arrays: made by `python -m loadtest generate` in a child process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import FatalError
from schemas.features import HOUR
from simulation.plan import FIRST_DAY, WARM_UP_DAYS, Plan, Scenario

NEW_PATTERN = "remote_access"
VERDICT_HOURS = 2.0
"""Median time until an analyst, or the holder whom one calls, says what an alert was."""


@dataclass(frozen=True, slots=True)
class World:
    """n transactions in event order.

    `messages` are those of `transactions`; `fraud` is the truth, `pattern` whether it is of the new
    kind; `label` what somebody reports as fraud and `label_time` when, `verdict_time` when
    an alert on it would be settled. Times are ms.
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


def generate(plan: Plan, path: Path) -> None:
    """Write the world of a plan to a Parquet file. Blocks for seconds.

    Raises:
        FatalError: the generator failed; the text ends with what it said.
    """
    onset = str(WARM_UP_DAYS + plan.history_days + plan.onset)
    command = [
        sys.executable, "-m", "loadtest", "generate", "--days", str(plan.world_days),
        "--output", str(path), "--customers", str(plan.customers), "--seed", str(plan.seed),
        "--first-day", str(np.datetime64(FIRST_DAY, "D")), "--messages",
        "--fraud-factor", str(plan.fraud_factor),
    ]  # fmt: skip
    if plan.scenario == Scenario.NEW_PATTERN:
        command += [
            "--new-pattern-day", onset, "--new-pattern-factor", str(plan.new_pattern_factor)
        ]  # fmt: skip
    if plan.scenario == Scenario.DRIFT:
        command += ["--drift-day", onset]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FatalError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def load(path: Path, seed: int) -> World:
    """Read a world; the times of verdicts are drawn by the seed."""
    table = pq.read_table(
        path,
        columns=[
            "message", "transaction_id", "card_id", "event_time", "fraud", "scenario", "label",
            "label_time",
        ],
    )  # fmt: skip
    time = table.column("event_time").to_numpy()
    rng = np.random.default_rng([seed, 11])
    hours = np.clip(VERDICT_HOURS * rng.lognormal(0.0, 0.6, len(time)), 0.25, 24.0)
    scenario = table.column("scenario").cast(pa.string()).combine_chunks()
    return World(
        messages=table.column("message").combine_chunks(),
        transaction_id=table.column("transaction_id"),
        card_id=table.column("card_id"),
        time=time,
        fraud=table.column("fraud").to_numpy(),
        pattern=pa.compute.equal(scenario, NEW_PATTERN).to_numpy(zero_copy_only=False),
        label=table.column("label").to_numpy(),
        label_time=table.column("label_time").to_numpy(),
        verdict_time=time + (hours * HOUR).astype(np.int64),
    )
