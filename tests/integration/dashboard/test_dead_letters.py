"""`python -m dashboard dead-letters` on a real Kafka: a message is refused, and then served."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dashboard.__main__ import app
from database.accounts import audit
from database.core.opening import open_database
from devstack.stack import Stack
from runtime.command_line import operator
from runtime.kafka.protocols import BY_KEY
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.errors import ConfigurationError
from schemas.topics import DEAD_LETTER, FEATURES, TRANSACTIONS
from tests.support.dashboard.letters import transaction
from tests.support.pipeline import Pipeline
from tests.support.waiting import until


@pytest.fixture
def pipeline(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    url = f"sqlite:///{tmp_path / 'fraud.db'}"
    with Pipeline(stack, tmp_path / "logs", database_url=url) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


def run(*words: str, exit_code: int = 0, typed: str = "") -> Any:
    """Return the JSON that a command writes."""
    arguments = ["dead-letters", *words, "--json", "-"]
    result = CliRunner().invoke(app, arguments, input=typed)
    assert result.exit_code == exit_code, (result.output, result.exception)
    return json.loads(result.stdout.splitlines()[-1]) if exit_code == 0 else None


def test_refused_transactions_are_served_once_their_currency_has_a_rate(
    pipeline: Pipeline,
) -> None:
    now_ms = time.time_ns() // 1_000_000
    wanted = [
        avro.encode("Transaction", transaction(number, event_time=now_ms)) for number in range(3)
    ]
    for number, value in enumerate(wanted):
        pipeline.producer.produce(
            pipeline.settings.topic(TRANSACTIONS), f"card-{number % 3}".encode(), value, BY_KEY
        )
    pipeline.producer.flush()
    [stream] = pipeline.start("stream_features")
    until(lambda: len(pipeline.messages(DEAD_LETTER)) == 3, "three dead letters")
    stream.stop()

    listed = run("list", "--topic", "transactions", "--field", "currency")
    assert [each["letter"] for each in listed] == [2, 1, 0]
    assert run("list", "--service", "scorer") == []
    shown = run("show", "0")
    assert shown["value"].startswith("Transaction {")
    run("redrive", "--field", "currency", exit_code=1, typed="n\n")
    assert run("redrive", "--field", "currency", typed="y\n") == {
        "sent": 3, "skipped": 0, "refused": {},
    }  # fmt: skip
    assert run("redrive", "--field", "currency", "--yes")["sent"] == 0
    assert run("redrive", "0", "--yes") == {"sent": 0, "skipped": 1, "refused": {}}
    assert run("redrive", "0", "--again", "--yes")["sent"] == 1

    served = pipeline.service("stream_features", FRAUD_CURRENCY_RATES='{"CHF": 2.0}')
    served.start()
    until(lambda: len(pipeline.messages(FEATURES)) == 4, "four vectors")
    vectors = [avro.decode(message.value or b"")[1] for message in pipeline.messages(FEATURES)]
    repeated = sorted(
        (each["transaction"]["transaction_id"], each["duplicate"]) for each in vectors
    )
    letter = avro.decode(pipeline.messages(DEAD_LETTER)[0].value or b"")[1]
    again = avro.decode(letter["value"])[1]["transaction_id"]
    expected = [(f"t{number}", False) for number in range(3)] + [(again, True)]
    assert repeated == sorted(expected), "what was sent twice counts once"
    with (
        open_database(load_settings()) as database,
        database.read() as connection,
    ):
        entries = audit.entries(connection, action="dead letter sent again")
    assert [entry.who for entry in entries] == [operator()] * 4


def test_what_cannot_be_done_says_what_to_do(pipeline: Pipeline) -> None:
    for words, said in (
        (["show", "7"], "there is no letter 7"),
        (["redrive", "--yes"], "name either letters or a filter"),
        (["redrive", "1", "--field", "ip", "--yes"], "name either letters or a filter"),
    ):
        result = CliRunner().invoke(app, ["dead-letters", *words])
        assert isinstance(result.exception, ConfigurationError)
        assert said in str(result.exception)
    result = CliRunner().invoke(app, ["dead-letters", "redrive", "7", "--yes"])
    assert "there is no letter 7 any more" in result.output
