"""An exclusive log on Kafka transactions: see `protocols.ExclusiveLog`.

All writers of a topic share one transactional id. Beginning (`init_transactions`) fences the writer
that held it: its uncommitted messages never count, and its committed ones can be read. So a commit
that succeeds proves that nobody else has committed since this writer began, and hence that it had
read the whole log when it decided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import confluent_kafka as ck

from runtime.kafka.access.connection import connection
from runtime.kafka.protocols import Decide, Entry, Message
from runtime.kafka.reader import KafkaReader
from runtime.retries import Retry
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, ConfigurationError, DeliveryRejected

ATTEMPTS: Final = 30
"""How often a writer starts over because another one was faster."""
ANSWER_S: Final = 30.0
"""How long one step of a transaction may take."""
TRANSACTION_MS: Final = 15_000
"""The longest time that a writer which died within a transaction holds up readers."""


class _GotAhead(Exception):
    """Another writer has begun, or the transaction was aborted; nothing was added."""


TRY_AGAIN: Final = Retry(
    errors=_GotAhead, max_attempts=ATTEMPTS, first_wait_s=0.05, max_wait_s=2.0, jitter=True
)


class KafkaExclusiveLog:
    """See `protocols.ExclusiveLog`. The topic must exist. Use it from one thread."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._reader: KafkaReader | None = None
        self._messages: list[Message] = []

    def read(self) -> list[Message]:
        """Return all committed entries, in order."""
        if self._reader is None:
            self._reader = KafkaReader(self._settings, self._topic)
        self._messages += self._reader.read_to_end()
        return list(self._messages)

    def append(self, decide: Decide) -> None:
        """Add the entries that `decide` returns, in one transaction; readers see them on return."""
        self.read()  # beforehand, so that little is left to read within the transaction
        try:
            TRY_AGAIN(lambda: self._attempt(decide))
        except _GotAhead as error:
            raise BrokerUnavailable(
                f"other writers of {self._topic} were faster {ATTEMPTS} times in a row: try again"
            ) from error

    def _attempt(self, decide: Decide) -> None:
        producer = self._begun()
        entries = decide(self.read())
        if entries:
            self._await(self._committed(producer, entries))

    def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
            self._messages.clear()

    def _begun(self) -> ck.Producer:
        """Return a producer that has fenced all others, and is fenced when another begins.

        Kafka lets it begin only after the previous producer's transaction has ended, for readers
        too. It makes no such promise about a producer's own last transaction, so every transaction
        gets a new producer.
        """
        producer = ck.Producer(
            connection(self._settings)
            | {
                "transactional.id": f"{self._topic}-writer",
                "transaction.timeout.ms": TRANSACTION_MS,
                "linger.ms": 0,
            }
        )
        self._step("begin", lambda: producer.init_transactions(ANSWER_S))
        return producer

    def _committed(self, producer: ck.Producer, entries: Sequence[Entry]) -> int:
        """Commit, and return the offset of the last message."""
        offsets: list[int] = []

        def note(error: ck.KafkaError | None, message: ck.Message) -> None:
            offsets.append(message.offset() or 0)

        self._step("open", producer.begin_transaction)
        try:
            for number, (key, value) in enumerate(entries):
                if number == 1:  # the first goes alone, as `KafkaProducer` says
                    self._step("send", lambda: producer.flush(ANSWER_S))
                producer.produce(self._topic, value=value, key=key, partition=0, on_delivery=note)
        except ck.KafkaException as error:  # the next writer to begin aborts this transaction
            raise DeliveryRejected(
                f"cannot write to {self._topic}: {error.args[0].str()}"
            ) from error
        self._step("commit", lambda: producer.commit_transaction(ANSWER_S))
        return max(offsets)

    def _await(self, offset: int) -> None:
        """Wait until readers see a message: Kafka completes a commit a moment after its answer."""
        deadline = time.monotonic() + ANSWER_S
        while not self._messages or self._messages[-1].offset < offset:
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"entries committed to {self._topic} did not appear")
            self.read()

    def _step(self, name: str, step: Callable[[], object]) -> None:
        deadline = time.monotonic() + ANSWER_S
        while True:
            try:
                step()
                return
            except ck.KafkaException as failed:
                error: ck.KafkaError = failed.args[0]
                if error.retriable() and time.monotonic() < deadline:
                    continue
                if error.code() == ck.KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
                    raise ConfigurationError(
                        f"Kafka does not let this user write {self._topic} by the transactional id "
                        f"{self._topic}-writer: grant Write and Describe on it"
                    ) from failed
                if error.fatal() or error.txn_requires_abort() or error.code() in _FENCED:
                    raise _GotAhead(error.str()) from failed
                raise BrokerUnavailable(f"{name} on {self._topic}: {error.str()}") from failed


_FENCED: Final = frozenset(
    {
        ck.KafkaError._FENCED,
        ck.KafkaError._STATE,
        ck.KafkaError.INVALID_PRODUCER_EPOCH,
        ck.KafkaError.PRODUCER_FENCED,
        ck.KafkaError.CONCURRENT_TRANSACTIONS,
    }
)
