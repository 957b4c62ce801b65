"""The observed services with what faults need besides: another scorer, PostgreSQL, a key."""

from __future__ import annotations

import time
from pathlib import Path

from database.accounts.api_keys import create
from database.core.opening import open_database
from devstack.ports import free_port
from devstack.servers.postgres import PostgresServer
from devstack.stack import Stack
from runtime.settings import load_settings
from tests.conftest import MIGRATED
from tests.support.monitor.faster_rules import faster_rules
from tests.support.monitor.observed_services import COMMANDS, Observed

SECOND = "scorer-2"
"""Another scorer beside the first one."""


class Breakable(Observed):
    """See the module."""

    def __init__(self, stack: Stack, postgres: PostgresServer, folder: Path) -> None:
        self.postgres = postgres
        address = postgres.create(f"observed{time.time_ns()}", template=MIGRATED)
        self.database = open_database(load_settings(database_url=address))
        now_ms = time.time_ns() // 1_000_000
        with self.database.begin() as connection:
            _, self.key = create(connection, "tests", ["score", "read"], by="test", now_ms=now_ms)
        self.api_port = free_port()
        super().__init__(
            stack,
            folder,
            faster_rules(folder / "rules", most_wait_ms=5_000),
            {"stream_features": ["--stall-seconds", "8"]},
            unwatched=("monitor",),
            database_url=address,
            case_undo="100ms",
            api_port=str(self.api_port),
            approval="true",
            shadow_for="1ms",
        )
        self.services[SECOND] = self._service(SECOND, [*COMMANDS["scorer"]])
        self.jobs["scorer"].append(self.services[SECOND].health_port)

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()
