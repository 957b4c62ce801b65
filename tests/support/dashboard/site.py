"""The dashboard without a network, for tests of its pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from httpx import Response

from dashboard.app import create_app
from dashboard.dead_letters.letters import DeadLetters
from dashboard.dead_letters.redrive import Redrive
from dashboard.live.collector import build_collector
from dashboard.parts import DashboardParts
from dashboard.review.case_counts import CaseCounts
from database.accounts import people, sessions
from database.accounts.passwords import Passwords
from database.core.database import Database
from runtime.clock import ManualClock
from runtime.kafka.memory import (
    MemoryBroker,
    MemoryExclusiveLog,
    MemoryProducer,
    MemoryReader,
)
from runtime.kafka.model_registry import ModelRegistry
from runtime.metrics import Metrics
from runtime.settings import load_settings
from schemas.errors import BrokerUnavailable

ADDRESS = "http://dashboard.test"
PASSWORD = "a quiet walk by the sea"
START = 1_770_000_000_000
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Site:
    """A dashboard on `database`; `clock` stands still, `registry` is in memory.

    `options` replace fields of DashboardParts.
    """

    def __init__(self, database: Database, **options: Any) -> None:
        self.clock = ManualClock(START)
        self.registry = ModelRegistry(
            MemoryExclusiveLog(MemoryBroker(1, self.clock), "models"), self.clock
        )
        self.passwords = Passwords(CHEAP)
        self.database = database
        settings = load_settings()
        self.broker = MemoryBroker(4, self.clock)
        letters = DeadLetters(
            "dead-letter",
            lambda topic, starts: MemoryReader(self.broker, topic, starts),
            self._bounds,
        )
        given: dict[str, Any] = {
            "settings": settings,
            "case_counts": CaseCounts(0.0),
            "collector": build_collector(settings, self.clock),
            "database": database,
            "redrive": Redrive(
                letters,
                ["transactions", "labels"],
                self._produce,
                database=database,
                clock=self.clock,
            ),
            "registry": self._lend,
            "metrics": Metrics("dashboard"),
            "passwords": self.passwords,
            "clock": self.clock,
        }
        self.parts = DashboardParts(**{**given, **options})
        self.app = create_app(self.parts)

    def stranger(self, **options: Any) -> TestClient:
        """Return a browser that is not logged in; it follows no redirect."""
        given: dict[str, Any] = {
            "base_url": ADDRESS,
            "headers": {"Origin": ADDRESS, "Accept": "text/html"},
            "follow_redirects": False,
        }
        return TestClient(self.app, **{**given, **options})

    def add(self, username: str, role: str) -> None:
        """Add a person whose password is PASSWORD."""
        hashed = self.passwords.hash(PASSWORD)
        with self.database.begin() as connection:
            people.add(connection, username, role, "-", by="test", now_ms=self.clock.now_ms())
            people.change_password(
                connection, username, hashed, replaces="-", now_ms=self.clock.now_ms()
            )

    def person(self, role: str, username: str | None = None) -> TestClient:
        """Return the browser of a new person, logged in, that sends the CSRF token as a header."""
        name = username or role.replace(" ", "-")
        self.add(name, role)
        client = self.stranger()
        assert log_in(client, name).status_code == 303
        client.headers["X-CSRF-Token"] = self.csrf(client)
        return client

    def csrf(self, client: TestClient) -> str:
        """Return the token of a client's session."""
        with self.database.read() as connection:
            found = sessions.find(connection, client.cookies["session"], now_ms=self.clock.now_ms())
        assert found is not None
        return found.csrf

    def _bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        if not self.broker.available:
            raise BrokerUnavailable("the broker in memory is switched off")
        places = self.broker.places([topic])
        return {place.partition: (0, len(self.broker.log(place))) for place in places}

    @contextmanager
    def _produce(self) -> Iterator[MemoryProducer]:
        yield MemoryProducer(self.broker)

    @contextmanager
    def _lend(self) -> Iterator[ModelRegistry]:
        yield self.registry


def log_in(client: TestClient, username: str, password: str = PASSWORD, **form: str) -> Response:
    """Send the form of the log-in page."""
    answer: Response = client.post(
        "/login", data={"username": username, "password": password, **form}
    )
    return answer


def page_by_page(client: TestClient, path: str) -> list[str]:
    """Return the texts of a list's pages, from the newest on by the links to older ones."""
    texts = []
    following: str | None = path
    while following is not None:
        texts.append(client.get(following).text)
        older = re.search(rf'href="({path}\?[^"]*)">Older', texts[-1])
        following = None if older is None else older[1].replace("&amp;", "&")
    return texts
