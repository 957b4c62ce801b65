"""`python -m scorer run` as a process on real Kafka: answers, swaps, refusals, crashes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.service_process import Service
from devstack.stack import Stack
from runtime.kafka.partitioner import partition_of
from schemas.codec import avro
from schemas.features import FINGERPRINT, NAMES
from schemas.manifest import MANIFEST_NAME, sha256, write_manifest
from schemas.records import ModelEvent
from schemas.topics import ALERTS, DEAD_LETTER, DECISIONS, FEATURES, MODELS, POLICY
from tests.support.pipeline import Pipeline
from tests.support.scorer.stand_ins import LARGE, SMALL, small_bundle, vector
from tests.support.trainer.signed import SigningKey
from tests.support.waiting import until


class Bench:
    """A scorer fed by hand: `send` writes vectors as the stream processor would."""

    def __init__(self, stack: Stack, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.pipeline = Pipeline(stack, tmp_path / "logs")
        self.offsets: Counter[int] = Counter()

    def partition(self, card: str) -> int:
        return partition_of(card.encode(), self.pipeline.settings.partitions)

    def send(self, card: str, **fields: Any) -> tuple[int, int]:
        """Send one vector at the next position of its partition, and return that."""
        partition = self.partition(card)
        position = partition, self.offsets[partition]
        self.offsets[partition] += 1
        self.pipeline.send(FEATURES, card, vector(position, card_id=card, **fields))
        return position

    def decision(self, position: tuple[int, int]) -> dict[str, Any]:
        """Wait for the answer to a position."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [d for d in self.decisions() if source(d) == position]
            return bool(found)

        until(there, f"a decision for {position}")
        assert len(found) == 1
        return found[0]

    def decisions(self) -> list[dict[str, Any]]:
        return self.pipeline.records(DECISIONS)

    def bundle(self, model_id: str, **options: Any) -> Path:
        directory = self.tmp_path / model_id
        small_bundle(directory, model_id, **options)
        return directory

    def event(self, directory: Path, stage: Any, share: float | None = None) -> ModelEvent:
        """Return the event as it is written for a bundle, also for one that is damaged."""
        data = (directory / MANIFEST_NAME).read_bytes()
        return {
            "model_id": directory.name,
            "stage": stage,
            "canary_share": share,
            "artefact_uri": directory.as_uri(),
            "sha256": sha256(data),
            "fingerprint": FINGERPRINT,
            "metrics": {},
            "occurred_at": time.time_ns() // 1_000_000,
            "actor": "test",
            "comment": None,
        }

    def publish(self, directory: Path, stage: str, share: float | None = None) -> None:
        self.publish_event(self.event(directory, stage, share))

    def publish_event(self, event: ModelEvent) -> None:
        self.pipeline.send(MODELS, event["model_id"], avro.encode("ModelEvent", event))
        self.pipeline.producer.flush(30.0)

    def publish_policy(self, document: dict[str, Any]) -> None:
        event = {
            "policy_id": "default",
            "version": document["version"],
            "document": json.dumps(document),
            "occurred_at": 1,
            "actor": "test",
        }
        self.pipeline.send(POLICY, "default", avro.encode("PolicyEvent", event))
        self.pipeline.producer.flush(30.0)

    def until_decided_by(self, **expected: Any) -> dict[str, Any]:
        """Send one small vector after the other until a decision has these fields."""

        def decided() -> bool:
            return all(
                self.decision(self.send("probe"))[name] == value for name, value in expected.items()
            )

        until(decided, f"a decision with {expected}")
        return self.decisions()[-1]

    def alerts(self) -> list[tuple[str, str]]:
        return [(a["rule"], a["detail"]["name"]) for a in self.pipeline.records(ALERTS)]


def source(decision: dict[str, Any]) -> tuple[int, int]:
    return decision["source_partition"], decision["source_offset"]


@pytest.fixture
def bench(stack: Stack, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(stack, tmp_path)
    with made.pipeline:
        yield made


def started(bench: Bench) -> Service:
    return bench.pipeline.start("scorer")[0]


def test_answers_by_the_champion_in_the_same_partition_with_reasons(bench: Bench) -> None:
    bench.publish(bench.bundle("first"), "CHAMPION")
    started(bench)
    sent = {
        bench.send(f"card-{row}", amount=LARGE if row % 5 == 0 else SMALL): row
        for row in range(200)
    }
    bench.pipeline.wait_for(DECISIONS, 200)
    messages = bench.pipeline.messages(DECISIONS)
    decisions = bench.decisions()
    assert sorted(map(source, decisions)) == sorted(sent)
    for message, decision in zip(messages, decisions, strict=True):
        row = sent[source(decision)]
        assert message.partition == decision["source_partition"]
        assert message.key == decision["card_id"].encode() == f"card-{row}".encode()
        assert (decision["model_id"], decision["model_role"]) == ("first", "CHAMPION")
        assert decision["decision"] == ("BLOCK" if row % 5 == 0 else "APPROVE")
        assert bool(decision["reasons"]) == (row % 5 == 0)
        assert decision["degraded"] is None
        assert 0.0 < decision["anomaly_score"] < 1.0
    blocked = next(d for d in decisions if d["decision"] == "BLOCK")
    strongest = blocked["reasons"][0]
    assert strongest["code"] == NAMES[0]
    assert "1,000" in strongest["text"]
    assert strongest["contribution"] > 0


def test_models_are_swapped_between_two_batches_and_bad_ones_refused(bench: Bench) -> None:
    started(bench)
    first = bench.decision(bench.send("card", amount=LARGE))
    assert (first["decision"], first["degraded"]) == ("REVIEW", "no_model")
    assert (first["score"], first["model_id"], first["model_role"]) == (None, None, "NONE")
    bench.publish(bench.bundle("one"), "CHAMPION")
    bench.until_decided_by(model_id="one", degraded=None)
    bench.publish(bench.bundle("two", edge=1_400.0), "CHAMPION")
    bench.until_decided_by(model_id="two")
    assert bench.decision(bench.send("card", amount=LARGE))["decision"] == "APPROVE"

    corrupt = bench.bundle("corrupt")
    changed = bytearray((corrupt / "model.ubj").read_bytes())
    changed[len(changed) // 2] ^= 1
    (corrupt / "model.ubj").write_bytes(changed)
    bench.publish(corrupt, "CHAMPION")
    foreign = bench.bundle("foreign")
    write_manifest(foreign, "foreign", b"otherone")
    bench.publish(foreign, "CHAMPION")
    bench.publish_event(
        {**bench.event(foreign, "CHAMPION"), "model_id": "gone", "artefact_uri": "file:///nowhere"}
    )
    bench.pipeline.send(MODELS, "noise", b"\x00noise")
    bench.pipeline.producer.flush(30.0)
    refused = {("bundle_refused", "corrupt"), ("bundle_refused", "foreign"),
               ("bundle_refused", "gone"), ("event_refused", "noise")}  # fmt: skip
    until(lambda: set(bench.alerts()) == refused, "an alert for each bad model")
    assert bench.decision(bench.send("card"))["model_id"] == "two"

    bench.publish(bench.tmp_path / "two", "ROLLED_BACK")
    bench.until_decided_by(model_id="one")
    bench.publish(bench.bundle("three"), "CHAMPION")
    bench.until_decided_by(model_id="three")


def test_with_a_public_key_no_unsigned_bundle_serves(bench: Bench) -> None:
    key = SigningKey()
    bundle = bench.bundle("m")
    bench.publish(bundle, "CHAMPION")
    service = bench.pipeline.service("scorer", FRAUD_BUNDLE_PUBLIC_KEY=key.public.hex())
    service.start()
    service.wait_ready()
    assert bench.decision(bench.send("card"))["degraded"] == "no_model"
    until(lambda: bench.alerts() == [("bundle_refused", "m")], "an alert for the bundle")
    key.sign(bundle, number=1)
    bench.publish(bundle, "CHAMPION")
    bench.until_decided_by(model_id="m")


def test_a_canary_takes_its_share_of_the_cards_and_a_shadow_only_watches(bench: Bench) -> None:
    bench.publish(bench.bundle("champion"), "CHAMPION")
    bench.publish(bench.bundle("canary"), "CANARY", share=0.3)
    bench.publish(bench.bundle("shadow", edge=1_400.0), "SHADOW")
    started(bench)
    for turn in range(2):
        for row in range(400):
            bench.send(f"card-{row}", amount=LARGE if turn else SMALL)
    decisions = bench.pipeline.wait_for(DECISIONS, 800)
    by_card: dict[str, set[str]] = {}
    for decision in decisions:
        by_card.setdefault(decision["card_id"], set()).add(decision["model_id"])
        role = "CANARY" if decision["model_id"] == "canary" else "CHAMPION"
        assert decision["model_role"] == role
        assert [shadow["model_id"] for shadow in decision["shadows"]] == ["shadow"]
        assert decision["shadows"][0]["score"] < 0.1
    assert all(len(models) == 1 for models in by_card.values())
    share = sum(models == {"canary"} for models in by_card.values()) / len(by_card)
    assert 0.2 < share < 0.4


def test_policy_is_taken_while_running_and_one_that_does_not_compile_refused(bench: Bench) -> None:
    bench.publish(bench.bundle("model"), "CHAMPION")
    started(bench)
    rule = {"id": "velocity", "action": "REVIEW", "when": "card_tx_count_24h > 10",
            "text": "many transactions in a day"}  # fmt: skip
    bench.publish_policy({"version": "v1", "rules": [rule]})
    bench.until_decided_by(policy_version="v1")
    hit = bench.decision(bench.send("card", count_24h=12.0))
    assert (hit["decision"], hit["rule_hits"]) == ("REVIEW", ["velocity"])
    assert hit["reasons"][0] == {
        "code": "velocity",
        "text": "many transactions in a day",
        "contribution": None,
    }
    bench.publish_policy({"version": "v2", "rules": [{**rule, "when": "no_such_name > 1"}]})
    until(lambda: ("policy_refused", "default") in bench.alerts(), "an alert for the policy")
    again = bench.decision(bench.send("card", count_24h=12.0))
    assert (again["policy_version"], again["decision"]) == ("v1", "REVIEW")


def test_what_cannot_be_served_is_a_dead_letter_and_the_next_is_served(bench: Bench) -> None:
    bench.publish(bench.bundle("model"), "CHAMPION")
    started(bench)
    before = bench.send("card")
    bench.pipeline.send(FEATURES, "card", b"noise")
    elsewhere = (bench.partition("card") + 1) % bench.pipeline.settings.partitions
    bench.pipeline.send(FEATURES, "card", vector((elsewhere, 7)))
    bench.pipeline.send(FEATURES, "card", vector((99, 7)))
    foreign = bench.send("card", fingerprint=b"otherone")
    after = bench.send("card")
    assert bench.decision(before)["decision"] == "APPROVE"
    assert bench.decision(after)["decision"] == "APPROVE"
    unknown = bench.decision(foreign)
    assert (unknown["decision"], unknown["degraded"]) == ("REVIEW", "unknown_fingerprint")
    assert unknown["model_id"] is None
    letters = bench.pipeline.wait_for(DEAD_LETTER, 3)
    assert [letter["error_class"] for letter in letters] == [
        "UndecodableMessage", "InvalidField", "InvalidField",
    ]  # fmt: skip
    assert letters[0]["value"] == b"noise"
    assert {letter["service"] for letter in letters} == {"scorer"}
    assert letters[1]["field"] == "source_partition"
    assert len(bench.decisions()) == 3


def test_kill_9_and_repeated_vectors_give_no_second_answer(bench: Bench) -> None:
    bench.publish(bench.bundle("model"), "CHAMPION")
    service = started(bench)
    sent: list[tuple[int, int]] = []
    for kill in range(4):
        sent += [bench.send(f"card-{row}") for row in range(1_500)]
        bench.pipeline.wait_for(DECISIONS, 1_500 * kill + 400)
        service.kill()
        service.start()
        service.wait_ready()
    for partition, offset in sent[-300:]:  # a re-emission repeats the newest of a partition
        card = next(c for c in (f"card-{r}" for r in range(50)) if bench.partition(c) == partition)
        bench.pipeline.send(FEATURES, card, vector((partition, offset), card_id=card))
    last = [bench.send(f"card-{row}") for row in range(50)]
    for position in last:
        bench.decision(position)
    counts = Counter(map(source, bench.decisions()))
    assert set(counts) == {*sent, *last}
    assert max(counts.values()) == 1


def test_two_scorers_share_the_partitions(bench: Bench) -> None:
    bench.publish(bench.bundle("model"), "CHAMPION")
    services = [bench.pipeline.service("scorer", number) for number in (1, 2)]
    for service in services:
        service.start()
    for service in services:
        service.wait_ready()
    sent = [bench.send(f"card-{row}") for row in range(1_000)]
    bench.pipeline.wait_for(DECISIONS, 1_000)
    services[0].stop()
    assert not services[0].running
    sent += [bench.send(f"card-{row}") for row in range(1_000)]
    bench.pipeline.wait_for(DECISIONS, 2_000)
    assert sorted(map(source, bench.decisions())) == sorted(sent)


def test_while_kafka_restarts_the_scorer_waits_and_loses_nothing(bench: Bench) -> None:
    bench.publish(bench.bundle("model"), "CHAMPION")
    service = started(bench)
    sent = [bench.send(f"card-{row}") for row in range(2_000)]
    bench.pipeline.wait_for(DECISIONS, 500)
    bench.pipeline.stack.kafka.restart()
    sent += [bench.send(f"card-{row}") for row in range(500)]
    for position in sent[-20:]:
        assert bench.decision(position)["model_id"] == "model"
    until(lambda: len(bench.decisions()) == len(sent), "every decision")
    assert sorted(map(source, bench.decisions())) == sorted(sent)
    assert service.running
    bench.publish(bench.bundle("next"), "CHAMPION")
    bench.until_decided_by(model_id="next")


def test_started_before_kafka_serves_it_waits(bench: Bench) -> None:
    bench.pipeline.stack.kafka.stop()
    service = bench.pipeline.service("scorer")
    service.start()
    bench.pipeline.stack.kafka.start()
    service.wait_ready()
    assert bench.decision(bench.send("card"))["degraded"] == "no_model"
    service.stop()
    assert not service.running
