"""The whole dashboard as people run it: services, store and pages as processes, under traffic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import SecretStr

from dashboard.live.exposition import Scrape
from dashboard.live.scrape import Scraper
from database.accounts import people
from database.accounts.passwords import Passwords
from database.core.opening import open_database
from devstack.ports import free_port
from devstack.service_process import Service
from devstack.stack import Stack
from runtime.clock import SystemClock
from runtime.kafka.model_registry import open_registry, registration
from schemas.features import NAMES
from schemas.records import Stage
from tests.support.browser.live_traffic import Traffic, World
from tests.support.dashboard.site import CHEAP, PASSWORD
from tests.support.pipeline import Pipeline
from tests.support.scorer.stand_ins import small_bundle
from trainer.evaluation.evaluate import histogram

PEOPLE = {"vera": "viewer", "ana": "analyst", "olga": "model owner"}


@dataclass(slots=True)
class LiveSite:
    """What runs; `targets` are the addresses that the dashboard reads."""

    pipeline: Pipeline
    traffic: Traffic
    dashboard: Service
    address: str
    targets: dict[str, str] = field(default_factory=dict)

    def scrape(self) -> Scrape:
        """Return what the processes say now, read beside the dashboard."""
        scraper = Scraper(self.targets, SystemClock())
        try:
            return scraper.scrape()
        finally:
            scraper.close()


def put_model(pipeline: Pipeline, folder: Path, name: str, stage: Stage, comment: str = "") -> None:
    """Train a small model and bring it to a stage."""
    draw = np.random.default_rng(5)
    reference = {each: histogram(draw.normal(10.0, 3.0, 500)) for each in NAMES}
    small_bundle(folder / name, name, seed=len(name), histograms=reference)
    with open_registry(pipeline.settings) as registry:
        registry.register(registration(folder / name, actor="tests", comment=comment))
        if stage != "REGISTERED":
            registry.change(name, stage, actor="tests", comment=comment)


@contextmanager
def live_site(stack: Stack, folder: Path) -> Iterator[LiveSite]:
    """Start everything and wait until all of it serves."""
    url = f"sqlite:///{folder}/fraud.db"
    with Pipeline(stack, folder / "logs", database_url=url) as pipeline:
        put_model(pipeline, folder, "first", "CHAMPION")
        put_model(pipeline, folder, "second", "REGISTERED")
        services = [pipeline.service(name) for name in ("stream_features", "scorer", "monitor")]
        services.append(_service(pipeline, "store", "database", "store"))
        targets = {each.name: f"http://127.0.0.1:{each.health_port}" for each in services}
        port = free_port()
        dashboard = _service(
            pipeline, "dashboard", "dashboard", "run",
            FRAUD_DASHBOARD_TARGETS=json.dumps(targets), FRAUD_DASHBOARD_PORT=str(port),
        )  # fmt: skip
        for each in (*services, dashboard):
            each.start()
        for each in (*services, dashboard):
            each.wait_ready()
        _add_people(pipeline, url)
        with Traffic(pipeline, World()) as traffic:
            yield LiveSite(pipeline, traffic, dashboard, f"http://127.0.0.1:{port}", targets)


def _service(
    pipeline: Pipeline, name: str, package: str, command: str, **environment: str
) -> Service:
    env = {**pipeline.environment, "FRAUD_WORKER_ID": name, **environment}
    made = Service(name, ["-m", package, command], env=env, log_dir=pipeline.log_dir)
    pipeline.services.append(made)
    return made


def _add_people(pipeline: Pipeline, url: str) -> None:
    settings = pipeline.settings.model_copy(update={"database_url": SecretStr(url)})
    hashed = Passwords(CHEAP).hash(PASSWORD)
    with open_database(settings) as database, database.begin() as connection:
        for username, role in PEOPLE.items():
            people.add(connection, username, role, "-", by="tests", now_ms=1)
            people.change_password(connection, username, hashed, replaces="-", now_ms=1)
