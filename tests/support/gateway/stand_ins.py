"""The gateway with a pipeline in memory, for tests: what is sent is there to be decided by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from database.accounts.api_keys import ApiKey, hashed
from gateway.app import application
from gateway.scoring.gateway import DecisionMessage, FoundDecision, Gateway
from gateway.scoring.idempotency import IdempotencyCache
from gateway.scoring.lookups import LookupSources
from gateway.scoring.ownership import tenant_of
from gateway.scoring.reading import TransactionReader
from gateway.scoring.score_many import ScoreMany
from gateway.scoring.score_one import ScoreOne
from gateway.web.access import Caller, Keyring
from gateway.web.rates import Allowance, Rates
from runtime.clock import ManualClock
from runtime.kafka.non_blocking_producer import OnAcknowledged
from runtime.metrics import Metrics, read_exposition
from runtime.web.root_path import RootPath
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.errors import BrokerUnavailable
from schemas.records import Decision, Transaction
from scorer.policy.document import DEFAULT_POLICY
from stream_features.operate.show import EntityState

NOW = 1_740_830_400_000
KEY = "fraud_k1_secret"
MAX_BYTES = 4_096
MAX_BATCH = 65_536


def transaction(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a transaction as a client writes it."""
    return {
        "transaction_id": f"t-{number}",
        "event_time": NOW - 1_000,
        "card_id": f"card-{number % 3}",
        "merchant_id": "shop-3",
        "amount": 1_234,
        "currency": "EUR",
        **changes,
    }


def decision(sent: Transaction, offset: int, **changes: Any) -> Decision:
    """Return what the scorer would say to a transaction."""
    made: dict[str, Any] = {
        **{
            field: sent[field]  # type: ignore[literal-required]
            for field in ("transaction_id", "card_id", "merchant_id", "event_time", "amount",
                          "currency")
        },
        "source_partition": 0,
        "source_offset": offset,
        "decision": "APPROVE",
        "score": 0.125,
        "anomaly_score": 0.25,
        "model_id": "m-1",
        "model_role": "CHAMPION",
        "policy_version": "default",
        "duplicate": False,
        "late": False,
        "degraded": None,
        "kind": sent.get("kind", "PURCHASE"),
        "unread": sent.get("unread", []),
        "rule_hits": [],
        "reasons": [],
        "shadows": [],
        "received_at": NOW,
        "computed_at": NOW * 1_000,
        "decided_at": NOW * 1_000,
        **changes,
    }  # fmt: skip
    return made  # type: ignore[return-value]


class Pipeline:
    """Takes what the gateway sends. While `away`, nothing is acknowledged; `full`: nothing taken.

    With `answers`, every transaction is decided soon by what it returns.
    """

    def __init__(self) -> None:
        self.sent: list[Transaction] = []
        self.away = self.full = False
        self.decided: Callable[[Sequence[DecisionMessage]], None] = lambda heard: None
        self.answers: Callable[[Transaction], dict[str, Any]] | None = None
        self._reports: list[tuple[int, OnAcknowledged]] = []

    def send(self, key: bytes, value: bytes, on_acknowledged: OnAcknowledged) -> None:
        if self.full:
            raise BrokerUnavailable("full")
        _, record = avro.decode(value)
        sent: Transaction = record  # type: ignore[assignment]
        assert key == sent["card_id"].encode()
        self.sent.append(sent)
        self._reports.append((len(self.sent) - 1, on_acknowledged))
        if self.answers is not None:
            offset, changes = len(self.sent) - 1, self.answers(sent)
            asyncio.get_running_loop().call_soon(lambda: self.decide(sent, offset, **changes))

    def poll(self) -> None:
        if not self.away:
            reports, self._reports = self._reports, []
            for offset, report in reports:
                report(0, offset)

    def flush(self, timeout_s: float) -> int:
        self.poll()
        return len(self._reports)

    def decide(self, sent: Transaction, offset: int, **changes: Any) -> Decision:
        """Let a decision come on `decisions`."""
        made = decision(sent, offset, **changes)
        self.decided([heard(made)])
        return made


def heard(made: Decision) -> DecisionMessage:
    """Return a decision as the listener tells of it."""
    return DecisionMessage(
        (made["transaction_id"].encode(), made["card_id"].encode()),
        made["duplicate"],
        avro.encode("Decision", made),
    )


def api_key(key: str = KEY, scopes: str = "score read", **changes: Any) -> ApiKey:
    """Return what is stored of a key."""
    known: dict[str, Any] = {
        "key_id": key.split("_")[1],
        "hashed": hashed(key.encode()),
        "name": "test",
        "tenant": "default",
        "scopes": frozenset(scopes.split()),
        "created_at": NOW,
        "expires_at": None,
        "revoked_at": None,
        **changes,
    }
    return ApiKey(**known)


class Bench:
    """A gateway, its application, and what they need. Make it within a running event loop."""

    def __init__(
        self,
        *,
        rate: float = 1e6,
        rate_bytes: float = 1e12,
        rate_seconds: float = 1e6,
        known: int = 100,
        max_waiting: int = 100,
        slow_s: float = 0.05,
        pan_key: bytes | None = None,
        root_path: str = "",
    ) -> None:
        self.clock = ManualClock(NOW)
        self.trouble = ""
        self.metrics = Metrics("gateway")
        self.pipeline = Pipeline()
        self.stored: dict[tuple[str, str], FoundDecision] = {}
        self.cards: dict[str, EntityState] = {}
        self.card: Callable[[str], EntityState | None] = self.cards.get
        self.keys = [api_key()]
        self.gateway = Gateway(
            producer=self.pipeline,
            policy=lambda: DEFAULT_POLICY,
            original=self._original,
            clock=self.clock,
            metrics=self.metrics,
            cache=IdempotencyCache(known),
            max_waiting=max_waiting,
        )
        self.pipeline.decided = self.gateway.decided
        rates = Rates(rate, rate_bytes, rate_seconds)
        self.keyring = Keyring(lambda: list(self.keys), self.clock, rates)
        self.reader = TransactionReader(CurrencyTable(), self.clock, pan_key)
        self.app = self._application(slow_s, root_path)

    def _application(self, slow_s: float, root_path: str) -> RootPath:
        self.one = ScoreOne(
            self.gateway, self.reader, max_bytes=MAX_BYTES, deadline_ms=100, slow_s=slow_s
        )
        return application(
            one=self.one,
            many=ScoreMany(
                self.gateway,
                self.reader,
                max_bytes=MAX_BATCH,
                max_line_bytes=MAX_BYTES,
                slow_s=slow_s,
            ),
            sources=LookupSources(
                gateway=self.gateway,
                stored=self._stored,
                card=lambda card: self.card(card),
            ),
            keys=self.keyring,
            metrics=self.metrics,
            ready=lambda: self.trouble,
            alive=lambda: self.trouble,
            root_path=root_path,
        )

    async def _original(self, sent: Transaction) -> FoundDecision | None:
        return self.stored.get((sent["transaction_id"], sent["card_id"]))

    def _stored(self, name: str, tenant: str, card_id: str | None) -> Decision | None:
        for (transaction_id, card), found in self.stored.items():
            wanted = transaction_id == name and card_id in (None, card)
            if wanted and tenant_of(found.transaction) == tenant:
                return found.decision
        return None

    def score(
        self, sent: Transaction, deadline_s: float, tenant: str = "default"
    ) -> asyncio.Future[bytes]:
        """Score a transaction for a key of a tenant."""
        now = asyncio.get_running_loop().time()
        allowance = Allowance(Rates(1e6, 1e12, 1e6), now)
        caller = Caller("k1", tenant, frozenset(("score", "read")), allowance)
        return self.gateway.score(sent, deadline_s, caller)

    def find(self, transaction_id: str, tenant: str = "default") -> bytes | None:
        """Return what the gateway itself knows of a tenant's transaction."""
        return self.gateway.find(transaction_id, tenant)

    def client(self, key: str | None = KEY) -> httpx.AsyncClient:
        """Return a client that calls the application directly."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        transport = httpx.ASGITransport(self.app)  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)

    def counted(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        text = self.metrics.exposition().decode()
        return sum(
            value
            for sample, found, value in read_exposition(text)
            if sample == name and labels.items() <= found.items()
        )


def run(
    scenario: Callable[[Bench], Awaitable[None]], *, answering: bool = True, **options: Any
) -> None:
    """Run a scenario on a bench of its own; with `answering`, what is sent is decided at once."""

    async def on_bench() -> None:
        bench = Bench(**options)
        if answering:
            bench.pipeline.answers = lambda sent: {}
        await scenario(bench)

    asyncio.run(on_bench())
