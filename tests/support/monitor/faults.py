"""Faults of a running system, each made from outside as the world would make it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import redis

from database.review.case_work import claim_next, decide
from devstack.service_process import Service
from gateway.client import FraudClient, GatewayError, GatewayUnreachable
from runtime.feature_store.redis import RedisFeatureStore
from runtime.kafka.protocols import BY_KEY
from schemas.codec import avro
from schemas.features import DAY, FINGERPRINT
from schemas.records import ModelEvent
from schemas.topics import DECISIONS, MODELS, RETRAIN_REQUESTS, TRANSACTIONS
from tests.support.monitor.observed_faults import SECOND, Breakable
from tests.support.monitor.observed_services import LARGE, Observed
from tests.support.waiting import PATIENCE_S
from trainer.training import run_records

ROOT = Path(__file__).parents[3]
OLDER = "FINGERPRINT: Final = fingerprint(CATALOGUE[:-1])"


def send_garbage(observed: Observed, count: int) -> None:
    """Send to `transactions` what is none."""
    records = [
        (BY_KEY, f"holder-{number % 97:04d}".encode(), b"no transaction of holder-0001")
        for number in range(count)
    ]
    topic = observed.pipeline.settings.topic(TRANSACTIONS)
    observed.pipeline.producer.produce_many(topic, records)
    observed.pipeline.producer.flush(PATIENCE_S)


def send_no_decision(observed: Observed) -> None:
    """Send to `decisions` what is none."""
    observed.pipeline.send(DECISIONS, "holder-0001", b"no decision of holder-0001")
    observed.pipeline.producer.flush(PATIENCE_S)


def refuse_a_bundle(observed: Observed) -> None:
    """Publish a model whose bundle is not there."""
    event: ModelEvent = {
        "model_id": "gone",
        "stage": "SHADOW",
        "canary_share": None,
        "artefact_uri": (observed.folder / "gone").as_uri(),
        "sha256": "0" * 64,
        "fingerprint": FINGERPRINT,
        "metrics": {},
        "occurred_at": time.time_ns() // 1_000_000,
        "actor": "test",
        "comment": None,
    }
    observed.pipeline.send(MODELS, "gone", avro.encode("ModelEvent", event))
    observed.pipeline.producer.flush(PATIENCE_S)


def ask_for_training(observed: Observed) -> None:
    """Ask for a new model while the archive holds too little for one."""
    record = {"reason": "manual", "detail": {}, "occurred_at": time.time_ns() // 1_000_000}
    observed.pipeline.send(RETRAIN_REQUESTS, "manual", avro.encode("RetrainRequest", record))
    observed.pipeline.producer.flush(PATIENCE_S)


def pass_a_run_long_ago(observed: Observed) -> None:
    """Leave the trainer the record of a run that passed three days ago."""
    at = time.time_ns() // 1_000_000 - 3 * DAY
    failed = run_records.failed("run-old", at, at, "", "archive")
    passed = replace(failed, state="passed", reasons=(), stages=("REGISTERED", "SHADOW"))
    run_records.save(passed, observed.runs)


def part_the_scorers(observed: Observed) -> None:
    """Publish a champion whose bundle is gone before the second scorer, suspended, can read it."""
    second = observed.services[SECOND]
    os.kill(second.pid, signal.SIGSTOP)
    try:
        bundle = observed.publish_model("next", "CHAMPION")
        observed.serves("next", 1)
        shutil.rmtree(bundle)
    finally:
        os.kill(second.pid, signal.SIGCONT)


def start_anew(observed: Observed, name: str) -> None:
    """Kill a process and start it, until Prometheus has seen the new one."""
    service = observed.services[name]
    [port] = observed.jobs[name]
    query = f'process_start_time_seconds{{instance="127.0.0.1:{port}"}}'

    def started() -> list[str]:
        return [each["value"][1] for each in observed.prometheus.query(query)]

    before = started()
    service.kill()
    service.start()
    deadline = time.monotonic() + PATIENCE_S
    while started() in (before, []):
        assert time.monotonic() < deadline, f"{name} does not start anew"


def take_partitions(observed: Observed) -> None:
    """Take every partition, as another worker under the same name would."""
    store = RedisFeatureStore.from_settings(observed.pipeline.settings)
    for number in range(observed.pipeline.settings.partitions):
        store.acquire(number)
    store.close()


def hold_redis_up(observed: Observed) -> None:
    """Let Redis write nothing for 300 ms."""
    with redis.Redis.from_url(observed.stack.redis_url) as client:
        client.execute_command("CLIENT", "PAUSE", 300, "WRITE")


@contextmanager
def full_redis(observed: Observed) -> Iterator[None]:
    """Leave Redis no memory to write to; it answers."""
    with redis.Redis.from_url(observed.stack.redis_url) as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


@contextmanager
def few_files(service: Service) -> Iterator[None]:
    """Leave a process few more files than it has open."""
    before = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    opened = len(os.listdir(f"/proc/{service.pid}/fd"))
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (int(opened / 0.85), before[1]))
    try:
        yield
    finally:
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def no_archive(observed: Observed) -> Iterator[None]:
    """Let the log of the archive's vectors be a link that leads nowhere: nobody can read it."""
    log = observed.archive / "features/_delta_log"
    away = log.rename(log.with_name("away"))
    log.symlink_to(log)
    try:
        yield
    finally:
        log.unlink()
        away.rename(log)


@contextmanager
def older_version(observed: Observed) -> Iterator[None]:
    """Run a second dashboard from a source whose catalogue has one feature less."""
    source = observed.folder / "older"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "schemas", source / "schemas", ignore=ignored)
    features = source / "schemas/features.py"
    text = features.read_text()
    features.write_text(text.replace("FINGERPRINT: Final = fingerprint()", OLDER))
    assert features.read_text() != text
    env = {
        **observed.pipeline.environment,
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": f"{source}:{ROOT}",
    }
    service = Service(
        "older", ["-m", "dashboard", "run"], env=env, log_dir=observed.pipeline.log_dir
    )
    observed.pipeline.services.append(service)
    service.start()
    jobs = {**observed.jobs, "dashboard": [*observed.jobs["dashboard"], service.health_port]}
    observed.prometheus.watch(jobs)
    try:
        yield
    finally:
        observed.prometheus.watch(observed.jobs)
        service.kill()


def give_a_verdict(observed: Breakable) -> None:
    """Let an analyst decide a case that the store has opened."""
    now = time.time_ns() // 1_000_000
    with observed.database.begin() as connection:
        case = claim_next(connection, "ann", now, 60_000)
        assert case is not None
        decide(connection, case.case_id, "ann", "FRAUD", "", now)


def post(observed: Breakable) -> None:
    """Ask the gateway for a decision within 50 ms, and for one that nobody has made."""
    number = time.time_ns()
    transaction = {
        "transaction_id": f"post-{number}",
        "event_time": number // 1_000_000,
        "card_id": "holder-0001",
        "merchant_id": "shop-1",
        "amount": LARGE,
        "currency": "EUR",
        "channel": "ECOM",
    }
    url = f"http://127.0.0.1:{observed.api_port}"
    with FraudClient(url, observed.key, deadline_ms=50, attempts=1) as client:
        with suppress(GatewayError, GatewayUnreachable):
            client.score(transaction)
        with suppress(GatewayError, GatewayUnreachable):  # 404, or 503 without a database
            client.decision("nobody-made-it")
