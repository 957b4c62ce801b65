"""A transaction in, the pipeline's decision out: produce, await, or fall back at the deadline.

Everything runs on the event loop's thread and nothing blocks. As long as a tenant's transaction is
in the idempotency cache, the same content gets the same answer again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import structlog

from gateway.scoring.answers import decided, fallback, read_decision, same_transaction
from gateway.scoring.idempotency import IdempotencyCache, IdempotencyEntry, Identity, digest
from gateway.scoring.ownership import owned, without_owner
from gateway.web.access import Caller
from gateway.web.problems import Problem
from runtime.clock import Clock
from runtime.kafka.non_blocking_producer import NonBlockingProducer
from runtime.metrics import Metrics
from runtime.repeated_lines import RepeatedLines
from schemas.codec import avro
from schemas.errors import BrokerUnavailable, FatalError
from schemas.records import Decision, Transaction
from scorer.policy.document import Policy

log = structlog.get_logger(__name__)
MAX_WAITING: Final = 24_000
"""Transactions that may wait for a decision at the same time; one tenant may have two thirds."""
MAX_SEARCHES: Final = 4
"""Simultaneous look-ups of duplicates in the database; others wait for their turn."""
Original = Callable[[Transaction], Awaitable["FoundDecision | None"]]
"""Looks up the first decision on a transaction that the pipeline has marked as a duplicate."""


class FoundDecision(NamedTuple):
    """A stored decision, and the transaction that it answers if that is stored, too."""

    decision: Decision
    transaction: Transaction | None


class DecisionMessage(NamedTuple):
    """An encoded Decision with the fields that the gateway needs."""

    identity: Identity
    duplicate: bool
    message: bytes


class RefusedTransaction(NamedTuple):
    """A transaction that became a dead letter."""

    identity: Identity
    position: tuple[int, int]
    field: str | None
    reason: str


class Gateway:
    """Answers transactions with the pipeline's decisions.

    `failed` is why the process must end, or "" if it need not.
    """

    def __init__(
        self,
        *,
        producer: NonBlockingProducer,
        policy: Callable[[], Policy],
        original: Original,
        clock: Clock,
        metrics: Metrics,
        cache: IdempotencyCache | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._producer, self._policy, self._original = producer, policy, original
        self._clock, self._metrics = clock, metrics
        self._cache = IdempotencyCache() if cache is None else cache
        self._max_waiting = max_waiting
        self._searches: set[asyncio.Task[None]] = set()
        self._searching = asyncio.Semaphore(MAX_SEARCHES)
        self._lines = RepeatedLines()
        self._waiting_of: Counter[str] = Counter()
        self.waiting = 0
        self.failed = ""

    def score(
        self, transaction: Transaction, deadline_s: float, caller: Caller
    ) -> asyncio.Future[bytes]:
        """Return a future that has the answer within `deadline_s`. Do not cancel it: it is shared.

        Raises:
            Problem: the id was used for another transaction of the card, or nothing can be accepted
                now. The future may raise one, too.
        """
        identity = transaction["transaction_id"].encode(), transaction["card_id"].encode()
        content = digest(transaction)
        entry = self._cache.get(identity, caller.tenant) or self._cache.get(identity, None)
        if entry is None:
            return self._send(identity, content, transaction, deadline_s, caller)
        self._refuse_other(entry, transaction, content)
        if entry.tenant is None:  # now it is known whose transaction it is, too
            entry = IdempotencyEntry(caller.tenant, caller.key_id, message=entry.message)
            self._cache.add(identity, entry)
        if entry.future is not None:
            self._hasten(identity, entry, deadline_s)
            return entry.future
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        future.set_result(self.answer(entry))
        return future

    def find(self, transaction_id: str, tenant: str, card_id: str | None = None) -> bytes | None:
        """Return the cached decision on a tenant's transaction as JSON, or None.

        Without `card_id`, it is that on the card on which the id was used last.
        """
        name = transaction_id.encode()
        card = self._cache.newest_card(name) if card_id is None else card_id.encode()
        entry = None if card is None else self._cache.get((name, card), tenant)
        if entry is None or entry.message is None:
            return None
        return decided(read_decision(entry.message))

    @staticmethod
    def answer(entry: IdempotencyEntry) -> bytes:
        """Return the answer for an entry that has a fallback or a decision."""
        if entry.fallback is not None:
            return entry.fallback
        return decided(read_decision(entry.message or b""))

    def _refuse_other(
        self, entry: IdempotencyEntry, transaction: Transaction, content: bytes
    ) -> None:
        if entry.content is not None:
            same = entry.content == content
        else:
            same = same_transaction(read_decision(entry.message or b""), transaction)
        if not same:
            raise self._conflict(transaction)

    def _conflict(self, transaction: Transaction) -> Problem:
        self._metrics.count("api_conflicts")
        transaction_id = transaction["transaction_id"]
        if (more := self._lines.due("conflict")) is not None:
            log.info("conflict", transaction_id=transaction_id, more=more)
        return Problem(
            "conflict",
            f"transaction_id {transaction_id!r} was already used with other content on this card: "
            "give each transaction of a card its own id",
            transaction_id=transaction_id,
        )

    def _send(
        self,
        identity: Identity,
        content: bytes,
        transaction: Transaction,
        deadline_s: float,
        caller: Caller,
    ) -> asyncio.Future[bytes]:
        self._refuse_too_many(caller.tenant)
        entry = IdempotencyEntry(caller.tenant, caller.key_id, content, transaction)
        value = avro.encode("Transaction", owned(transaction, caller.tenant, caller.key_id))
        try:
            self._producer.send(identity[1], value, entry.acknowledged)
        except BrokerUnavailable as error:
            if self._lines.due("not sent") is not None:
                log.warning("transactions are refused", reason=str(error))
            raise _unavailable("too many transactions are already waiting for Kafka") from error
        except FatalError as error:
            self.failed = str(error)
            raise _unavailable(
                "this gateway is stopping because Kafka rejects its messages"
            ) from error
        loop = asyncio.get_running_loop()
        future = entry.future = loop.create_future()
        entry.timer = loop.call_later(deadline_s, self._fall_back, identity, entry)
        self._cache.add(identity, entry)
        self.waiting += 1
        self._waiting_of[caller.tenant] += 1
        return future

    def _refuse_too_many(self, tenant: str) -> None:
        most, mine = self._max_waiting, self._waiting_of[tenant]
        if self.waiting >= most or mine >= most * 2 // 3:
            raise _unavailable(f"{self.waiting} transactions are already waiting for a decision")

    def _hasten(self, identity: Identity, entry: IdempotencyEntry, deadline_s: float) -> None:
        """Apply an earlier deadline to an entry, and so to all requests that wait for it."""
        loop = asyncio.get_running_loop()
        if entry.timer is not None and loop.time() + deadline_s < entry.timer.when():
            entry.timer.cancel()
            entry.timer = loop.call_later(deadline_s, self._fall_back, identity, entry)

    def decided(self, batch: Sequence[DecisionMessage]) -> None:
        """Apply decisions from their topic; the first one on each transaction counts."""
        for identity, duplicate, message in batch:
            entries = self._cache.of(identity)
            if not entries and not duplicate:
                self._cache.add(identity, IdempotencyEntry(message=message))
            for entry in entries:
                if entry.message is not None:
                    continue
                if not duplicate:
                    self._settle(entry, message)
                elif entry.future is not None and entry.transaction is not None:
                    self._search(entry, entry.transaction, message)

    def _settle(self, entry: IdempotencyEntry, message: bytes) -> None:
        entry.message = message
        decision = read_decision(message)
        if entry.fallback is not None:
            self._metrics.count("api_late")
            _log_decision("decided after the fallback", decision, entry)
            return
        self._finish(entry, FoundDecision(decision, None))

    def _finish(self, entry: IdempotencyEntry, found: FoundDecision) -> None:
        future, transaction = entry.future, entry.transaction
        if future is None or transaction is None:
            return
        self._release(entry)
        decision, original = found
        known = without_owner(original) if original else None
        if known == transaction if known else same_transaction(decision, transaction):
            _log_decision("decision", decision, entry)
            self._metrics.count("api_answers", source="decision")
            future.set_result(decided(decision))
        else:  # another transaction with this id was decided first
            entry.content = None
            self._metrics.count("api_answers", source="conflict")
            future.set_exception(self._conflict(transaction))

    def _release(self, entry: IdempotencyEntry) -> None:
        """Stop the timer and detach the waiting requests from an entry."""
        if entry.timer is not None:
            entry.timer.cancel()
        entry.future = entry.timer = entry.transaction = None
        self.waiting -= 1
        self._waiting_of[str(entry.tenant)] -= 1

    def _fall_back(self, identity: Identity, entry: IdempotencyEntry) -> None:
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
        if (more := self._lines.due(f"fallback {recorded}")) is not None:
            name = transaction["transaction_id"]
            owner = {"tenant": entry.tenant, "key_id": entry.key_id}
            log.warning("fallback", transaction_id=name, recorded=recorded, more=more, **owner)
        future.set_result(entry.fallback)

    def _search(self, entry: IdempotencyEntry, transaction: Transaction, message: bytes) -> None:
        """Answer a duplicate with the stored decision on its original, no longer in the cache."""

        async def search() -> None:
            async with self._searching:
                if entry.future is None:
                    return  # its deadline has passed while others were looked up
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
        """Apply dead letters: a request that waits for such a transaction gets a problem."""
        self._producer.poll()
        for letter in batch:
            waiting = self._cache.of(letter.identity)
            entry = next((each for each in waiting if each.position == letter.position), None)
            if entry is None or entry.future is None:
                continue
            future = entry.future
            self._release(entry)
            self._cache.remove(letter.identity, entry)
            self._metrics.count("api_answers", source="refused")
            errors = [{"field": letter.field, "reason": letter.reason}]
            future.set_exception(Problem("refused-transaction", letter.reason, errors=errors))


def _unavailable(reason: str) -> Problem:
    return Problem(
        "unavailable",
        f"not accepted: {reason}; send it again",
        headers={"Retry-After": "1"},
    )


def _log_decision(event: str, decision: Decision, entry: IdempotencyEntry) -> None:
    write = log.debug if decision["decision"] == "APPROVE" else log.info
    write(
        event,
        transaction_id=decision["transaction_id"],
        decision=decision["decision"],
        model_id=decision["model_id"],
        policy_version=decision["policy_version"],
        tenant=entry.tenant,
        key_id=entry.key_id,
    )
