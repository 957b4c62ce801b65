"""The backtest decides as the scorer does, and its command reports or says what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryConsumer, MemoryProducer
from runtime.kafka.protocols import TopicPartition
from runtime.metrics import Metrics
from schemas.codec import avro
from schemas.columns import CHANNELS
from schemas.errors import ConfigurationError
from schemas.features import DAY, FINGERPRINT, NAMES
from schemas.manifest import write_manifest
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent
from scorer.decision.decide import ACTIONS, Serving
from scorer.model.bundle import load_model
from scorer.policy.document import compile_policy
from scorer.service import GROUP, Scorer
from stream_features.offline.replay import replay_table
from tests.support.mapped import mapped
from tests.support.scorer.stand_ins import small_bundle
from trainer.__main__ import app
from trainer.backtest import backtest
from trainer.backtest.backtest import Contender
from trainer.backtest.contenders import bundle_in

START = 1_700_000_000_000
TEXTS = ("customer_id", "device_id", "ip", "ip_country", "card_country", "merchant_country")
MAPPING = """fields:
  transaction_id: id
  event_time: {column: time, unit: ms}
  card_id: card
  merchant_id: merchant
  amount: {column: amount, unit: minor}
  currency: {constant: EUR}
  channel: channel
  customer_id: customer_id
  device_id: device_id
  ip: ip
  ip_country: ip_country
  card_country: card_country
  merchant_country: merchant_country
  label: {column: fraud, fraud: 1, delay: 1d}
"""
POLICY = """
version: by-hand
thresholds: {block: 0.9, review: 0.5}
segments:
  - {name: cash, when: channel == 'ATM', block: 0.5, review: 0.1}
rules:
  - {id: abroad, action: REVIEW, when: card_country != merchant_country and amount > 450, text: a}
  - {id: busy, action: BLOCK, when: card_tx_count_24h > 6 or device_id == 'd3', text: busy}
  - {id: good-shop, action: APPROVE, when: "merchant_id in ['m1', 'm2']", text: good}
lists:
  - {id: stolen, action: BLOCK, field: card_id, values: [c4, c11], text: stolen}
  - {id: own, action: APPROVE, field: ip, values: [10.0.0.7], text: own}
"""
ARGUMENTS = ("--mapping", "map.yaml", "--input", "world.parquet")


def world(rows: int = 1_500, *, seed: int = 4) -> pa.Table:
    draw = np.random.default_rng(seed)
    amount = draw.integers(100, 100_000, rows)

    def texts(prefix: str, many: int, missing: float = 0.2) -> list[str | None]:
        numbers, absent = draw.integers(0, many, rows), draw.random(rows) < missing
        return [None if gone else f"{prefix}{n}" for n, gone in zip(numbers, absent, strict=True)]

    def countries() -> list[str | None]:
        return [None if n == 3 else ("DE", "FR", "US")[n] for n in draw.integers(0, 4, rows)]

    fraud = [
        None if n < 0.1 else int(a > 60_000) for n, a in zip(draw.random(rows), amount, strict=True)
    ]
    return pa.table(
        {
            "id": [f"t{n}" for n in range(rows)],
            "time": START + draw.integers(0, 20 * DAY, rows),  # not in order
            "card": texts("c", 40, 0.0), "merchant": texts("m", 12, 0.0), "amount": amount,
            "channel": draw.choice(CHANNELS, rows), "customer_id": texts("u", 40),
            "device_id": texts("d", 30), "ip": texts("10.0.0.", 20), "ip_country": countries(),
            "card_country": countries(), "merchant_country": countries(), "fraud": fraud,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history, its mapping, a policy and two bundles."""
    path = tmp_path_factory.mktemp("backtest")
    pa.parquet.write_table(world(), path / "world.parquet")
    (path / "map.yaml").write_text(MAPPING)
    (path / "policy.yaml").write_text(POLICY)
    small_bundle(path / "first", "first")
    small_bundle(path / "second", "second", edge=650.0, seed=2)
    return path


def serving(folder: Path) -> Serving:
    from scorer.policy.file import policy_text
    from trainer.backtest.contenders import bundle_at

    policy = compile_policy(policy_text(folder / "policy.yaml"))
    return Serving(policy, load_model(*bundle_at(folder / "first")))


def served(table: pa.Table, by: Serving) -> dict[str, dict[str, object]]:
    """Return the decisions of the scoring loop by transaction, from messages of the vectors."""
    replay = replay_table(table)
    broker = MemoryBroker(partitions=1)
    rows = table.take(pa.array(replay.order)).to_pylist()
    for offset, row in enumerate(rows):
        record = {
            "source_partition": 0, "source_offset": offset, "received_at": START,
            "computed_at": START * 1000, "duplicate": False, "late": False,
            "fingerprint": FINGERPRINT, "vector": replay.vectors[offset].tobytes(),
            "transaction": {
                **{name: row[name] for name in ("transaction_id", "card_id", "merchant_id")},
                **{name: row[name] for name in ("event_time", "amount", "currency", "channel")},
                **{name: row[name] for name in TEXTS}, "attributes": {},
            },
        }  # fmt: skip
        value = avro.encode("FeatureVector", record)
        broker.append("features", (0, row["card_id"].encode(), value))
    scorer = Scorer(
        producer=MemoryProducer(broker), decisions="decisions", dead_letter="dead-letter",
        serving=lambda: by, tail=lambda _: [], clock=ManualClock(START), metrics=Metrics("scorer"),
        monotonic=lambda: 0.0,
    )  # fmt: skip
    consumer = MemoryConsumer(
        broker, GROUP, ["features"], on_assign=scorer.assigned, on_revoke=scorer.revoked
    )
    while len(broker.log(TopicPartition("decisions", 0))) < len(rows):
        scorer.step(consumer)
    records = [avro.decode(m.value or b"")[1] for m in broker.log(TopicPartition("decisions", 0))]
    return {record["transaction_id"]: dict(record) for record in records}


def test_decisions_are_those_of_the_scorers_service(folder: Path) -> None:
    table = mapped(folder / "map.yaml", pa.parquet.read_table(folder / "world.parquet"))
    by = serving(folder)
    data = backtest.run(table, [Contender(by, {})])
    expected = served(table, by)
    ids = table.column("transaction_id").take(pa.array(data.rows)).to_pylist()
    own = data.outcomes[0]
    assert [ACTIONS[code] for code in own.action] == [expected[n]["decision"] for n in ids]
    assert own.score.tolist() == [expected[n]["score"] for n in ids]
    hits = [hit for record in expected.values() for hit in record["rule_hits"]]  # type: ignore[attr-defined]
    assert dict(own.rule_hits) == {name: hits.count(name) for name in set(hits)}
    assert set(own.rule_hits) == {"abroad", "busy", "good-shop", "stolen", "own"}
    assert set(own.action.tolist()) == {0, 1, 2}
    assert len(data.rows) == 1_500
    assert (data.label == -1).sum() == pytest.approx(150, abs=50)
    assert not data.labelled[data.label == -1].any()
    assert own.reasons().total() >= len(own.alerts) > 0


def test_only_what_came_since_is_judged_with_the_state_of_before(folder: Path) -> None:
    table = mapped(folder / "map.yaml", world())
    by = Contender(serving(folder), {})
    whole = backtest.run(table, [by])
    part = backtest.run(table, [by], since_ms=START + 15 * DAY)
    first = int(np.searchsorted(whole.time, START + 15 * DAY))
    assert (part.replayed, len(part.rows)) == (1_500, 1_500 - first)
    np.testing.assert_array_equal(part.outcomes[0].score, whole.outcomes[0].score[first:])
    np.testing.assert_array_equal(part.vectors, whole.vectors[first:])
    assert part.vectors[:, NAMES.index("card_tx_count_30d")].max() > 20


def invoke(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> object:
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, ["backtest", *ARGUMENTS, *more])


def test_the_command_reports_two_contenders_on_one_self_contained_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = invoke(
        folder, monkeypatch, "--candidate", "first", "--policy", "policy.yaml", "--against",
        "second", "--cards-a-day", "5", "--json", "out.json", "--html", "out.html",
    )  # fmt: skip
    assert result.exit_code == 0, result.output  # type: ignore[attr-defined]
    report = json.loads((folder / "out.json").read_text())
    one, other = report["contenders"]
    assert [one["model_id"], other["model_id"], one["policy"]] == ["first", "second", "by-hand"]
    assert sum(one["decisions"].values()) == report["period"]["transactions"] == 1_500
    assert report["period"]["labelled"] + report["period"]["unlabelled"] == 1_500
    assert sum(sum(one["mix"][name]) for name in ("approve", "review", "block")) == 1_500
    saved = one["money"]["saved_by_block"] + one["money"]["saved_by_review"]
    assert saved + one["money"]["missed"] == pytest.approx(one["money"]["fraud"])
    assert np.sum(report["difference"]["decisions"]) == 1_500
    apart = 1_500 - np.trace(report["difference"]["decisions"])
    assert report["difference"]["disagreements"] == apart > 0
    amounts = [row["amount"] for row in report["difference"]["by_amount"]]
    assert amounts == sorted(amounts, reverse=True)
    page = (folder / "out.html").read_text()
    links = set(re.findall(r"""https?://[^"' <>)]+""", page))
    assert links <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names only
    assert not re.search(r"<script|<link [^>]*href=\"(?!data:)|<img|@import", page)
    assert page.count("<svg") == page.count("</svg>") == 7
    assert report["difference"]["by_amount"][0]["transaction_id"] in page


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda text: text.replace("  label", "  # label"), ["--candidate", "first"], "'label'"),
        (
            lambda text: text.replace("fraud: 1", "fraud: 9"),
            ["--candidate", "first"],
            "both classes",
        ),
        (str, ["--candidate", "world.parquet"], "is not a bundle"),
        (str, ["--candidate", "foreign"], "another|train the model again"),
        (str, ["--candidate", "first", "--model", "x"], "one of --model"),
        (str, ["--candidate", "first", "--since", "2030-01-01"], "earlier --since"),
        (str, ["--candidate", "first", "--since", "May"], "not a day"),
        (str, ["--candidate", "first", "--policy", "map.yaml"], "policy refused"),
    ],
    ids=["no label", "one class", "no bundle", "foreign", "two", "late", "no day", "no policy"],
)
def test_what_cannot_be_judged_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: object, options: list[str], message: str
) -> None:
    if not (folder / "foreign").exists():
        (folder / "foreign").mkdir()
        write_manifest(folder / "foreign", "foreign", b"\x00" * 8)
    (folder / "changed.yaml").write_text(change(MAPPING))  # type: ignore[operator]
    result = invoke(folder, monkeypatch, "--mapping", "changed.yaml", *options)
    assert isinstance(result.exception, ConfigurationError)  # type: ignore[attr-defined]
    assert re.search(message, str(result.exception))  # type: ignore[attr-defined]


def test_a_model_is_found_by_its_last_event(tmp_path: Path) -> None:
    def event(model_id: str, sha256: str) -> ModelEvent:
        return {
            "model_id": model_id, "stage": "REGISTERED", "canary_share": None, "sha256": sha256,
            "artefact_uri": (tmp_path / sha256).as_uri(), "fingerprint": FINGERPRINT,
            "metrics": {}, "occurred_at": 1, "actor": "trainer", "comment": None,
        }  # fmt: skip

    states = ModelStates()
    for each in (event("b", "2" * 64), event("a", "3" * 64)):
        states.apply(each)
    assert bundle_in(states, "a") == (tmp_path / ("3" * 64), "3" * 64)
    with pytest.raises(ConfigurationError, match="no model 'c', it has b, a"):
        bundle_in(states, "c")
