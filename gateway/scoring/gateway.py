"""A transaction in, the pipeline's decision out: produce, await, or fall back at the deadline.

Lives on the event loop's thread; nothing here blocks. An answer once given for a transaction_id is
given again for the same content, as long as it is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import structlog

from gateway.scoring.answers import decided, fallback, read_decision, same_transaction
from gateway.scoring.idempotency import IdempotencyCache, IdempotencyEntry, digest
from gateway.web.problems import Problem
from runtime.clock import Clock
from runtime.kafka.non_blocking_producer import NonBlockingProducer
from runtime.metrics import Metrics
from schemas.codec import avro
from schemas.errors import BrokerUnavailable, FatalError
from schemas.records import Decision, Transaction
from scorer.policy.document import Policy

log = structlog.get_logger(__name__)
MAX_WAITING: Final = 20_000
"""Transactions that may wait for their decision at one time."""
Original = Callable[[Transaction], Awaitable["FoundDecision | None"]]
"""Finds the first decision of a transaction that the stream calls a duplicate, in the store."""


class FoundDecision(NamedTuple):
    """A decision of the store, and the transaction that it answers if that is there, too."""

    decision: Decision
    transaction: Transaction | None


class DecisionMessage(NamedTuple):
    """A Decision that came on its topic; ids in UTF-8."""

    identity: bytes
    card: bytes
    duplicate: bool
    message: bytes


class RefusedTransaction(NamedTuple):
    """A dead letter of a transaction at a position; `identity` in UTF-8."""

    identity: bytes
    position: tuple[int, int]
    field: str | None
    reason: str


class Gateway:
    """Answers transactions. `failed` says why the process must end, "" while it must not."""

    def __init__(
        self,
        *,
        producer: NonBlockingProducer,
        policy: Callable[[], Policy],
        original: Original,
        clock: Clock,
        metrics: Metrics,
        known: IdempotencyCache | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._producer, self._policy, self._original = producer, policy, original
        self._clock, self._metrics = clock, metrics
        self._cache = IdempotencyCache() if known is None else known
        self._max_waiting = max_waiting
        self._searches: set[asyncio.Task[None]] = set()
        self.waiting = 0
        self.failed = ""

    def score(self, transaction: Transaction, deadline_s: float) -> asyncio.Future[bytes]:
        """Return a future of the answer; it is there within `deadline_s`. Do not cancel it.

        Raises:
            Problem: another transaction had this id, or nothing can be taken now. The future may
                raise one, too.
        """
        identity = transaction["transaction_id"].encode()
        value = avro.encode("Transaction", transaction)
        entry = self._cache.get(identity)
        if entry is None:
            return self._send(identity, value, transaction, deadline_s)
        self._refuse_other(entry, transaction, value)
        if entry.future is not None:
            self._hasten(identity, entry, deadline_s)
            return entry.future
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        future.set_result(self.answer(entry))
        return future

    def find(self, transaction_id: str) -> bytes | None:
        """Return the decision that is remembered of an id, as JSON; None if there is none yet."""
        entry = self._cache.get(transaction_id.encode())
        if entry is None or entry.message is None:
            return None
        return decided(read_decision(entry.message))

    @staticmethod
    def answer(entry: IdempotencyEntry) -> bytes:
        """Return what is answered for an entry of which something is known."""
        if entry.fallback is not None:
            return entry.fallback
        return decided(read_decision(entry.message or b""))

    def _refuse_other(
        self, entry: IdempotencyEntry, transaction: Transaction, value: bytes
    ) -> None:
        if entry.content is not None:
            same = entry.content == digest(value)
        else:
            same = same_transaction(read_decision(entry.message or b""), transaction)
        if not same:
            raise self._conflict(transaction)

    def _conflict(self, transaction: Transaction) -> Problem:
        self._metrics.count("api_conflicts")
        transaction_id = transaction["transaction_id"]
        log.info("conflict", transaction_id=transaction_id)
        return Problem(
            "conflict",
            f"transaction_id {transaction_id!r} came before with other content: "
            "send each transaction under an id of its own",
            transaction_id=transaction_id,
        )

    def _send(
        self, identity: bytes, value: bytes, transaction: Transaction, deadline_s: float
    ) -> asyncio.Future[bytes]:
        if self.waiting >= self._max_waiting:
            raise _unavailable(f"{self.waiting} transactions wait for their decision already")
        card = transaction["card_id"].encode()
        entry = IdempotencyEntry(card, digest(value), transaction)
        try:
            self._producer.send(card, value, entry.acknowledged)
        except BrokerUnavailable as error:
            raise _unavailable(str(error)) from error
        except FatalError as error:
            self.failed = str(error)
            raise _unavailable("this gateway stops: Kafka refuses its messages") from error
        loop = asyncio.get_running_loop()
        future = entry.future = loop.create_future()
        entry.timer = loop.call_later(deadline_s, self._fall_back, identity, entry)
        self._cache.add(identity, entry)
        self.waiting += 1
        return future

    def _hasten(self, identity: bytes, entry: IdempotencyEntry, deadline_s: float) -> None:
        """Let an earlier deadline hold for an entry, and for all that wait for it."""
        loop = asyncio.get_running_loop()
        if entry.timer is not None and loop.time() + deadline_s < entry.timer.when():
            entry.timer.cancel()
            entry.timer = loop.call_later(deadline_s, self._fall_back, identity, entry)

    def decided(self, batch: Sequence[DecisionMessage]) -> None:
        """Take decisions that came on their topic; the first one of a transaction counts."""
        for identity, card, duplicate, message in batch:
            entry = self._cache.get(identity)
            if entry is None:
                if not duplicate:
                    self._cache.add(identity, IdempotencyEntry(card, message=message))
            elif entry.message is None and entry.card == card:
                if not duplicate:
                    self._settle(entry, message)
                elif entry.future is not None and entry.transaction is not None:
                    self._search(entry, entry.transaction, message)

    def _settle(self, entry: IdempotencyEntry, message: bytes) -> None:
        entry.message = message
        decision = read_decision(message)
        if entry.fallback is not None:
            self._metrics.count("api_late")
            _log_decision("decided after the fallback", decision)
            return
        self._finish(entry, FoundDecision(decision, None))

    def _finish(self, entry: IdempotencyEntry, found: FoundDecision) -> None:
        future, transaction = entry.future, entry.transaction
        if future is None or transaction is None:
            return
        self._release(entry)
        decision, original = found
        if original == transaction if original else same_transaction(decision, transaction):
            _log_decision("decision", decision)
            self._metrics.count("api_answers", source="decision")
            future.set_result(decided(decision))
        else:  # somebody else had the id, and was first
            entry.content = None
            self._metrics.count("api_answers", source="conflict")
            future.set_exception(self._conflict(transaction))

    def _release(self, entry: IdempotencyEntry) -> None:
        """Nobody waits for an entry any more."""
        if entry.timer is not None:
            entry.timer.cancel()
        entry.future = entry.timer = entry.transaction = None
        self.waiting -= 1

    def _fall_back(self, identity: bytes, entry: IdempotencyEntry) -> None:
        future, transaction = entry.future, entry.transaction
        if future is None or transaction is None:
            return
        self._producer.poll()
        recorded = entry.position is not None
        reason = "no decision within the deadline" if recorded else "Kafka did not answer in time"
        entry.fallback = fallback(
            transaction, self._policy(), reason, self._clock.now_ms(), recorded=recorded
        )
        self._release(entry)
        self._metrics.count("api_fallbacks", reason="deadline" if recorded else "kafka")
        self._metrics.count("api_answers", source="fallback")
        log.warning("fallback", transaction_id=transaction["transaction_id"], recorded=recorded)
        future.set_result(entry.fallback)

    def _search(self, entry: IdempotencyEntry, transaction: Transaction, message: bytes) -> None:
        """Answer a duplicate with the decision of its original, which is older than memory."""

        async def search() -> None:
            found = await self._original(transaction)
            if found is None:
                found = FoundDecision(read_decision(message), None)
            if entry.future is not None:
                entry.message = avro.encode("Decision", found.decision)
                self._finish(entry, found)

        task = asyncio.get_running_loop().create_task(search())
        self._searches.add(task)
        task.add_done_callback(self._searches.discard)

    def refused(self, batch: Sequence[RefusedTransaction]) -> None:
        """Take dead letters of transactions: what waits for such a position is told so."""
        self._producer.poll()
        for letter in batch:
            entry = self._cache.get(letter.identity)
            if entry is None or entry.future is None or entry.position != letter.position:
                continue
            future = entry.future
            self._release(entry)
            self._cache.remove(letter.identity)
            self._metrics.count("api_answers", source="refused")
            errors = [{"field": letter.field, "reason": letter.reason}]
            future.set_exception(Problem("refused-transaction", letter.reason, errors=errors))


def _unavailable(reason: str) -> Problem:
    return Problem(
        "unavailable",
        f"not taken: {reason}; send it again",
        headers={"Retry-After": "1"},
    )


def _log_decision(event: str, decision: Decision) -> None:
    tell = log.debug if decision["decision"] == "APPROVE" else log.info
    tell(
        event,
        transaction_id=decision["transaction_id"],
        decision=decision["decision"],
        model_id=decision["model_id"],
        policy_version=decision["policy_version"],
    )
