"""The registry of models: one suite, two logs (in memory and on a real Kafka); racing writers."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import confluent_kafka as ck
import pytest

from devstack.stack import Stack
from runtime.clock import ManualClock
from runtime.kafka.access.connection import connection
from runtime.kafka.clients import KafkaConsumer, KafkaProducer
from runtime.kafka.exclusive_log import KafkaExclusiveLog
from runtime.kafka.memory import MemoryBroker, MemoryExclusiveLog
from runtime.kafka.model_registry import ModelRegistry
from runtime.kafka.protocols import Decide, Entry, ExclusiveLog, Message
from runtime.kafka.reader import KafkaReader, read_all
from runtime.kafka.topic_admin import create_topics
from runtime.settings import Settings, load_settings
from schemas.codec import avro
from schemas.errors import BrokerUnavailable, ConfigurationError, ImpossibleTransition
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent, Stage
from schemas.topics import MODELS
from tests.unit.schemas.test_model_stages import event

Open = Callable[[], ExclusiveLog]
CHANGES = 12


@pytest.fixture
def on_kafka(stack: Stack) -> Settings:
    settings = load_settings(bootstrap=stack.bootstrap, topic_prefix=f"{uuid.uuid4().hex}.")
    create_topics(settings)
    return settings


@pytest.fixture(params=["memory", "kafka"])
def open_log(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Open one more writer's log on the same topic."""
    opened: list[ExclusiveLog] = []
    broker = MemoryBroker(1)
    kafka: Settings | None = None
    if request.param == "kafka":
        kafka = request.getfixturevalue("on_kafka")

    def make() -> ExclusiveLog:
        if kafka is None:
            opened.append(MemoryExclusiveLog(broker, MODELS.name))
        else:
            opened.append(KafkaExclusiveLog(kafka, kafka.topic(MODELS)))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_the_state_is_on_the_log_alone(open_log: Open) -> None:
    registry = ModelRegistry(open_log(), ManualClock(1_000))
    registry.register(event("a", "REGISTERED"))
    registry.register(event("b", "REGISTERED"))
    registry.change("a", "CHAMPION", actor="jane", comment="first")
    made = registry.change("b", "CANARY", actor="joe", share=0.1)
    assert (made["occurred_at"], made["actor"], made["canary_share"]) == (1_000, "joe", 0.1)
    assert made["sha256"] == "hash of b"
    with pytest.raises(ImpossibleTransition):
        registry.change("b", "REGISTERED", actor="joe")
    with pytest.raises(ConfigurationError, match="share"):
        registry.change("b", "CANARY", actor="joe")
    other = ModelRegistry(open_log())
    assert [(state.model_id, state.stage) for state in other.states()] == [
        ("a", "CHAMPION"), ("b", "CANARY"),
    ]  # fmt: skip
    other.change("b", "CHAMPION", actor="joe")
    registry.change("b", "ROLLED_BACK", actor="guard")  # the first writer sees the second's step
    assert [(state.model_id, state.stage) for state in other.states()] == [
        ("a", "CHAMPION"), ("b", "ROLLED_BACK"),
    ]  # fmt: skip


def test_noise_on_the_topic_is_told_and_hinders_nobody(open_log: Open) -> None:
    log = open_log()
    log.append(lambda _: [(b"a", b"noise")])
    registry = ModelRegistry(open_log())
    registry.register(event("a", "REGISTERED"))
    assert registry.states().stage("a") == "REGISTERED"
    assert [str(error) for error in registry.ignored] == [
        "event of model 'a' ignored, which stays UNREGISTERED: not an Avro single-object message: "
        "starts with 6e6f6973, expected c301"
    ]


def test_what_decide_raises_adds_nothing(open_log: Open) -> None:
    log = open_log()

    def refuse(_: object) -> list[Entry]:
        raise ConfigurationError("no")

    with pytest.raises(ConfigurationError, match="no"):
        log.append(refuse)
    log.append(lambda found: [] if found else [(b"a", b"1"), (b"b", b"2")])
    log.append(lambda found: [] if found else [(b"c", b"3")])
    assert [(each.key, each.value) for each in log.read()] == [(b"a", b"1"), (b"b", b"2")]


def test_racing_writers_make_only_steps_that_were_possible(open_log: Open) -> None:
    names = "abc"
    first = ModelRegistry(open_log())
    refused: list[str] = []
    for name in names:
        first.register(event(name, "REGISTERED"))

    def writer(number: int) -> list[str]:
        draw = random.Random(number)
        registry = ModelRegistry(open_log())
        accepted: list[str] = []
        for count in range(CHANGES):
            model_id = draw.choice(names)
            stage: Stage = draw.choice(["SHADOW", "CANARY", "CHAMPION", "ROLLED_BACK"])
            share = 0.4 if stage == "CANARY" else None
            mark = f"{number}-{count}"
            try:
                registry.change(model_id, stage, actor="racer", comment=mark, share=share)
            except ImpossibleTransition as error:
                if error.possible == ("REGISTERED",):
                    again = {**event(model_id, "REGISTERED"), "comment": mark}
                    try:
                        registry.register(again)  # type: ignore[arg-type]
                    except ImpossibleTransition:
                        continue
                    accepted.append(mark)
            except ConfigurationError as error:
                refused.append(str(error))
            else:
                accepted.append(mark)
        return accepted

    with ThreadPoolExecutor(2) as pool:
        accepted = [mark for found in pool.map(writer, (1, 2)) for mark in found]
    states = ModelStates()
    log = first._log.read()
    steps = [avro.decode(each.value or b"")[1] for each in log]
    for step in steps:
        replayed: ModelEvent = step  # type: ignore[assignment]
        if step["stage"] == "REGISTERED":
            states.registered(replayed)
        else:
            made = states.changed(
                step["model_id"], step["stage"], actor=step["actor"], comment=step["comment"],
                share=step["canary_share"], occurred_at=step["occurred_at"],
            )  # fmt: skip
            assert made == replayed
        states.apply(replayed)
    assert all("of the cards" in text for text in refused)
    marks = [step["comment"] for step in steps if step["comment"]]
    assert sorted(marks) == sorted(accepted)
    assert len({mark.split("-")[0] for mark in marks}) == 2


def test_what_is_not_committed_is_seen_by_no_reader(on_kafka: Settings) -> None:
    """A writer dies in mid-transaction: readers see nothing of it, and the next writer goes on."""
    topic = on_kafka.topic(MODELS)
    dead = ck.Producer(connection(on_kafka) | {"transactional.id": f"{topic}-writer"})
    dead.init_transactions(30)
    dead.begin_transaction()
    dead.produce(topic, value=b"half", key=b"a", partition=0)
    dead.flush(10)
    assert read_all(on_kafka, topic) == []
    log = KafkaExclusiveLog(on_kafka, topic)
    log.append(lambda found: [] if found else [(b"a", b"whole")])
    with pytest.raises(ck.KafkaException):
        dead.commit_transaction(10)
    follower = KafkaReader(on_kafka, topic)
    assert [message.value for message in follower.read_to_end()] == [b"whole"]
    plain = KafkaProducer(on_kafka)
    plain.produce(topic, b"b", b"by another client")
    plain.flush()
    plain.close()
    assert [message.value for message in follower.read_to_end()] == [b"by another client"]
    member = KafkaConsumer(on_kafka, on_kafka.group("g"), [topic])
    found: list[Message] = []
    while len(found) < 2:
        found += member.poll_batch(timeout_s=1.0)
    assert [message.value for message in found] == [b"whole", b"by another client"]
    for part in (log, follower, member):
        part.close()


def test_a_lost_answer_does_not_make_a_step_twice() -> None:
    """The step arrived, its answer did not: the second attempt finds it and leaves it."""

    class Forgetful(MemoryExclusiveLog):
        def append(self, decide: Decide) -> None:
            super().append(decide)
            super().append(decide)

    log = Forgetful(MemoryBroker(1), MODELS.name)
    registry = ModelRegistry(log)
    registry.register(event("a", "REGISTERED"))
    registry.change("a", "CHAMPION", actor="jane")
    assert len(log.read()) == 2


def test_a_broker_that_is_away_is_named() -> None:
    broker = MemoryBroker(1)
    broker.available = False
    with pytest.raises(BrokerUnavailable):
        ModelRegistry(MemoryExclusiveLog(broker, MODELS.name)).states()
