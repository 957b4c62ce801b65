"""Proves that features served live equal those of a replay, also when processes are killed.

A file goes through Kafka and the real services. The served features are read back with
`stream_features dump` and compared bit for bit with those of `stream_features replay`. At the end
one probe per merchant is sent, because its features sum up what all workers have written.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import yaml

from devstack.service_process import Service
from devstack.stack import Stack
from loadtest.deploy.model import publish
from loadtest.proof.chaos import Chaos, Disturbance
from loadtest.traffic.encode import Encoded, encode_transactions
from loadtest.traffic.feed import fraud_rows, label_message, read_mapped
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.protocols import BY_KEY
from runtime.kafka.reader import end_offsets, read_all
from runtime.kafka.topic_admin import create_topics
from runtime.settings import Settings, load_settings
from schemas.codec import avro
from schemas.errors import FatalError, TemporaryError
from schemas.mapping.document import FIELDS
from schemas.topics import DEAD_LETTER, DECISIONS, LABELS, TRANSACTIONS

Mode = Literal["backlog", "live"]
Progress = Callable[[str, int, int], None]
CHUNK: Final = 20_000
MERCHANT_SHARE: Final = 0.999
"""Share of rows whose merchant features must be equal if several workers run.

The order of transactions across partitions is then not defined, so some rows may differ.
"""
PROBE: Final = "probe-"
READY_S: Final = 60.0
STALL_S: Final = 60.0
"""The run has failed if no new decision comes for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """Settings of a run.

    Each service is killed `kills` times; if that is not 0, Kafka and Redis are restarted once.
    `rate` (transactions a second) applies to the live mode.
    """

    input: Path
    mapping: Path
    rows: int | None = None
    mode: Mode = "backlog"
    rate: float = 2_000.0
    workers: int = 1
    scorers: int = 1
    partitions: int = 4
    kills: int = 0
    seed: int = 7
    model: Path | None = None


def verify(options: VerifyOptions, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run the proof in `folder`, and return the report (see loadtest/README.md).

    Raises:
        ConfigurationError: the input cannot be read, or a program is missing.
        FatalError: a service ended, or no decision came for a minute.
    """
    table = _plain(read_mapped(options.input, options.mapping, options.rows))
    folder.mkdir(parents=True, exist_ok=True)
    probes = _probes(table)
    whole = pa.concat_tables([table, probes], promote_options="default")
    began = time.monotonic()
    with Stack(folder / "stack", options.partitions) as stack:
        run = _Run(options, stack, folder, table, progress)
        run.serve()
        run.send_probes(probes)
        report = run.stop_and_count(len(probes))
        report["seconds"] = time.monotonic() - began
        progress("reading back", 0, 1)
        served = folder / "served.parquet"
        report["vector_conflicts"] = run.dump(served)
    report |= _compared(whole, served, folder)
    return report


def passed(report: dict[str, Any], merchant_share: float = MERCHANT_SHARE) -> bool:
    """Return whether nothing was lost or answered in two ways, and all card features are equal.

    With one worker and a backlog all merchant features must be equal, too; otherwise those of
    `merchant_share` of the rows.
    """
    exact = report["mode"] == "backlog" and report["workers"] == 1
    return bool(
        report["lost"] == report["conflicting"] == report["vector_conflicts"] == 0
        and report["missing"] == report["card_rows_different"] == 0
        and report["probes_equal"] == report["probes"]
        and report["merchant_equal_share"] >= (1.0 if exact else merchant_share)
    )


class _Run:
    def __init__(
        self,
        options: VerifyOptions,
        stack: Stack,
        folder: Path,
        table: pa.Table,
        progress: Progress,
    ) -> None:
        self.options, self.stack, self.table, self.progress = options, stack, table, progress
        self.settings: Settings = load_settings(
            bootstrap=stack.bootstrap, redis_url=stack.redis_url, partitions=options.partitions
        )
        create_topics(self.settings)
        if options.model is not None:
            publish(self.settings, options.model)
        self.producer = KafkaProducer(self.settings)
        self.environment = stack.environment()
        logs = folder / "logs"
        self.streams = self._services("stream_features", options.workers, logs)
        self.scorers = self._services("scorer", options.scorers, logs)
        self.recoveries: list[dict[str, Any]] = []
        self._decided = 0

    def _services(self, package: str, count: int, logs: Path) -> list[Service]:
        return [
            Service(
                f"{package}-{number}",
                ["-m", package, "run"],
                env={**self.environment, "FRAUD_WORKER_ID": f"{package}-{number}"},
                log_dir=logs,
            )
            for number in range(1, count + 1)
        ]

    def serve(self) -> None:
        """Send the labels and then all transactions; return when each has its decision."""
        self._send_labels()
        encoded = encode_transactions(self.table)
        if self.options.mode == "backlog":
            self._send(encoded, rate=0.0)
        for service in [*self.streams, *self.scorers]:
            service.start()
        for service in [*self.streams, *self.scorers]:
            service.wait_ready(READY_S)
        chaos = self._chaos()
        if self.options.mode == "live":
            arguments = (encoded, self.options.rate)
            threading.Thread(target=self._send, args=arguments, daemon=True).start()
        self._await(len(encoded.values), chaos)
        self.recoveries = chaos.recoveries

    def _chaos(self) -> Chaos:
        kills = self.options.kills
        plan: list[Disturbance] = []
        if kills:
            for service in [*self.streams, *self.scorers]:
                plan += [Disturbance.kill(service)] * kills
            plan += [Disturbance.restart_redis(self.stack), Disturbance.restart_kafka(self.stack)]
        return Chaos(plan, self.table.num_rows, random.Random(self.options.seed))

    def send_probes(self, probes: pa.Table) -> None:
        """Send one transaction to each merchant, and wait for the decisions."""
        before = self.decided()
        self._send(encode_transactions(probes), rate=0.0)
        self._await(before + probes.num_rows, Chaos((), 0, random.Random(0)))

    def _send_labels(self) -> None:
        if "label" not in self.table.column_names:
            return
        labels = [label_message(row) for row in fraud_rows(self.table)]
        topic = self.settings.topic(LABELS)
        self.producer.produce_many(topic, [(BY_KEY, key, value) for key, value in labels])
        self.producer.flush(READY_S)

    def _send(self, encoded: Encoded, rate: float) -> None:
        """Send everything; at `rate` a second, or at once if that is 0."""
        topic = self.settings.topic(TRANSACTIONS)
        total, at, began = len(encoded.values), 0, time.monotonic()
        while at < total:
            due = int((time.monotonic() - began) * rate) if rate else at + CHUNK
            until = min(total, due)
            if until > at:
                rows = zip(encoded.keys[at:until], encoded.values[at:until], strict=True)
                self.producer.produce_many(topic, [(BY_KEY, key, value) for key, value in rows])
                at = until
            else:
                time.sleep(0.001)
        self.producer.flush(READY_S)

    def decided(self) -> int:
        """Return the number of messages on `decisions`, as last known while Kafka is down."""
        with contextlib.suppress(TemporaryError):
            self._decided = sum(end_offsets(self.settings, self.settings.topic(DECISIONS)).values())
        return self._decided

    def _await(self, wanted: int, chaos: Chaos) -> None:
        """Wait for `wanted` decisions, and let disturbances strike meanwhile."""
        last, since = -1, time.monotonic()
        while (found := self.decided()) < wanted or chaos.pending:
            self.progress("decided", min(found, wanted), wanted)
            if chaos.strike_if_due(found) or found != last:
                last, since = found, time.monotonic()
            if time.monotonic() - since > STALL_S:
                raise FatalError(
                    f"no decision came for {STALL_S:.0f} s: {found} of {wanted} are there"
                )
            time.sleep(0.05)

    def stop_and_count(self, probes: int) -> dict[str, Any]:
        """Stop the services, and count the decisions by source position."""
        for service in [*self.streams, *self.scorers]:
            service.stop()
        self.producer.close()
        sent = self.table.num_rows + probes
        answers: dict[tuple[int, int], list[bytes]] = {}
        for message in read_all(self.settings, self.settings.topic(DECISIONS)):
            _, decision = avro.decode(message.value or b"")
            position = (decision["source_partition"], decision["source_offset"])
            decision["decided_at"] = 0
            answers.setdefault(position, []).append(avro.encode("Decision", decision))
        dead = len(read_all(self.settings, self.settings.topic(DEAD_LETTER)))
        slowest = max((each["seconds"] for each in self.recoveries), default=0.0)
        return {
            "mode": self.options.mode,
            "workers": self.options.workers,
            "partitions": self.options.partitions,
            "sent": sent,
            "decided": len(answers),
            "lost": sent - len(answers) - dead,
            "dead_letters": dead,
            "duplicated": sum(len(found) - 1 for found in answers.values()),
            "conflicting": sum(len(set(found)) - 1 for found in answers.values()),
            "recoveries": self.recoveries,
            "slowest_recovery_s": slowest,
        }

    def dump(self, path: Path) -> int:
        """Write the vectors on `features`; return how many positions have two different ones."""
        report = path.with_suffix(".json")
        _command(
            ["dump", "--output", str(path), "--json", str(report)], self.environment, allowed=(0, 1)
        )
        return int(json.loads(report.read_text())["conflicts"])


def _plain(table: pa.Table) -> pa.Table:
    """Return the table without dictionary encoding, so that other tables can be appended."""
    return pa.table(
        {
            name: column.cast(column.type.value_type)
            if pa.types.is_dictionary(column.type)
            else column
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    )


def _probes(table: pa.Table) -> pa.Table:
    merchants = table.column("merchant_id").unique().to_pylist()
    last = int(np.asarray(table.column("event_time").to_numpy()).max())
    return pa.table(
        {
            "transaction_id": [f"{PROBE}{number}" for number in range(len(merchants))],
            "event_time": np.arange(last + 1, last + 1 + len(merchants)),
            "card_id": [f"{PROBE}{number}" for number in range(len(merchants))],
            "merchant_id": merchants,
            "amount": np.full(len(merchants), 100),
            "currency": [table.column("currency")[0].as_py()] * len(merchants),
        }
    )


def _compared(table: pa.Table, served: Path, folder: Path) -> dict[str, Any]:
    """Replay the table, compare it with the served vectors, and return the counts."""
    source, mapping = folder / "input.parquet", folder / "mapping.yaml"
    names = [name for name in table.column_names if name in FIELDS and name != "label"]
    fields: dict[str, Any] = {name: name for name in names}
    if "label" in table.column_names:
        fields["label"] = {"column": "label", "known": "label_time"}
    mapping.write_text(yaml.safe_dump({"fields": fields}))
    pa.parquet.write_table(table, source)
    replayed = folder / "replayed.parquet"
    files = ["--input", str(source), "--mapping", str(mapping), "--output", str(replayed)]
    _command(["replay", *files], {})
    found = _comparison(served, replayed, folder, probes=False)
    probed = _comparison(served, replayed, folder, probes=True)
    by_entity = found["rows_by_entity"]
    return {
        "compared": found["rows"],
        "missing": found["only_left"] + found["only_right"],
        "equal_rows": found["equal_rows"],
        "rows_different": by_entity,
        "card_rows_different": by_entity.get("card", 0),
        "merchant_equal_share": 1.0 - by_entity.get("merchant", 0) / max(found["rows"], 1),
        "probes": probed["rows"],
        "probes_equal": probed["equal_rows"],
        "examples": found["examples"] + probed["examples"],
    }


def _comparison(served: Path, replayed: Path, folder: Path, *, probes: bool) -> dict[str, Any]:
    """Compare either the probes or all other rows."""
    parts = [_part(path, folder, probes) for path in (served, replayed)]
    report = folder / "compared.json"
    _command(["compare", *map(str, parts), "--json", str(report)], {}, allowed=(0, 1))
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def _part(path: Path, folder: Path, probes: bool) -> Path:
    table = pa.parquet.read_table(path)
    ours = pc.starts_with(table.column("card_id").cast(pa.string()), PROBE)
    part = folder / f"{path.stem}-{'probes' if probes else 'rows'}.parquet"
    pa.parquet.write_table(table.filter(ours if probes else pc.invert(ours)), part)
    return part


def _command(
    arguments: list[str], environment: dict[str, str], allowed: tuple[int, ...] = (0,)
) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "stream_features", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    if answer.returncode not in allowed:
        raise FatalError(f"stream_features {arguments[0]} failed: {answer.stderr.strip()[-2000:]}")
