"""Sends the message of a dead letter again, to the topic that it came from.

It goes out as a producer would send it: with the card as its key, to the partition of that key. A
transaction that was served meanwhile is known by its id, so it gets a decision that is marked as a
duplicate and counts in no feature a second time. A label that was read before says the same again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dashboard.dead_letters.letters import DeadLetters, Letter, LetterFilter
from database.accounts import audit
from database.core.database import Database
from runtime.clock import Clock
from runtime.kafka.protocols import BY_KEY, Producer
from schemas.codec import avro
from schemas.dead_letters import MAX_KEY_BYTES, MAX_VALUE_BYTES
from schemas.errors import BadMessage, ConfigurationError

MAX_LETTERS: Final = 1_000
"""Letters that are sent again by one request."""
_AT_ONCE: Final = 100
"""Letters between two commits of the audit; one may be 2 MB large."""
_MASKED: Final = re.compile(rb"\*(?:[^0-9A-Za-z*]{0,3}\*){3,}")
"""What is left of a card number, with room for separators between its digits."""


class Sendable(NamedTuple):
    """A message as it will be sent."""

    topic: str
    key: bytes | None
    value: bytes


@dataclass(slots=True)
class Redriven:
    """What became of the letters: how many were sent, and why others were not, by offset."""

    sent: int = 0
    skipped: int = 0
    refused: dict[int, str] = field(default_factory=dict)


class Redrive:
    """Sends the messages of dead letters again, and writes that into the audit.

    Args:
        sources: full names of the topics that messages may be sent to again.
        lend: lends a producer; raises BrokerUnavailable.
    """

    def __init__(
        self,
        letters: DeadLetters,
        sources: Sequence[str],
        lend: Callable[[], AbstractContextManager[Producer]],
        *,
        database: Database,
        clock: Clock,
    ) -> None:
        self.letters = letters
        self._sources, self._lend = sources, lend
        self._database, self._clock = database, clock

    def sent_before(self, letters: Sequence[Letter]) -> dict[int, audit.AuditEntry]:
        """Return the newest audit entry of each letter that was sent again, by offset."""
        with self._database.read() as connection:
            found = audit.last_of(
                connection, "dead letter sent again", [letter.subject for letter in letters]
            )
        return {
            letter.offset: found[letter.subject] for letter in letters if letter.subject in found
        }

    def matching(self, wanted: LetterFilter, *, before: int | None = None) -> list[Letter]:
        """Return the newest letters that match and were not sent again, at most MAX_LETTERS.

        They come without their messages, and have offsets below `before`.
        """
        found: list[Letter] = []
        while len(found) < MAX_LETTERS:
            some = self.letters.newest(wanted, limit=MAX_LETTERS, before=before)
            sent = self.sent_before(some.letters)
            found += (letter for letter in some.letters if letter.offset not in sent)
            before = some.older
            if before is None:
                break
        return found[:MAX_LETTERS]

    def send(self, offsets: Iterable[int], *, by: str, again: bool = False) -> Redriven:
        """Send the messages of letters again, the oldest first, and say which cannot be sent.

        The audit has each before Kafka does, and is committed once Kafka has acknowledged them.

        Args:
            by: the person.
            again: whether to send those, too, that were sent again before.

        Raises:
            BrokerUnavailable, DatabaseUnavailable: the letters of the last 100 may not have been
                sent; sending them again does no harm.
        """
        done = Redriven()
        ordered = sorted(set(offsets))
        for start in range(0, len(ordered), _AT_ONCE):
            some = list(self.letters.these(ordered[start : start + _AT_ONCE]))
            for missing in {*ordered[start : start + _AT_ONCE]} - {each.offset for each in some}:
                done.refused[missing] = f"there is no letter {missing} any more"
            before = {} if again else self.sent_before(some)
            done.skipped += len(before)
            self._send([letter for letter in some if letter.offset not in before], by, done)
        return done

    def _send(self, letters: Sequence[Letter], by: str, done: Redriven) -> None:
        sendable: list[tuple[Letter, Sendable]] = []
        for letter in letters:
            try:
                sendable.append((letter, self.message(letter)))
            except ConfigurationError as error:
                done.refused[letter.offset] = str(error)
        if not sendable:
            return
        now_ms = self._clock.now_ms()
        with self._lend() as producer, self._database.begin() as connection:
            for letter, _ in sendable:
                audit.record(
                    connection,
                    who=by,
                    action="dead letter sent again",
                    subject=letter.subject,
                    after={name: letter.record[name] for name in _AUDITED},
                    now_ms=now_ms,
                )
            for _, message in sendable:
                producer.produce(message.topic, message.key, message.value, BY_KEY)
            producer.flush()
        done.sent += len(sendable)

    def message(self, letter: Letter) -> Sendable:
        """Return the message to send, from the letter's copy or, if that is masked or cut, from the
        topic that it came from.

        Raises:
            ConfigurationError: it cannot be sent again; the text says why and what to do.
        """
        record = letter.record
        topic, key, value = record["topic"], record["key"], record["value"]
        if topic not in self._sources:
            raise ConfigurationError(
                f"letter {letter.offset} came from {topic}: only messages of "
                f"{' and '.join(self._sources)} are sent again. The scorer answers each position "
                "of a topic once, so send the transaction again instead"
            )
        if _is_incomplete(key, MAX_KEY_BYTES) or _is_incomplete(value, MAX_VALUE_BYTES):
            original = self.letters.original(letter)
            if original is None:
                raise ConfigurationError(
                    f"letter {letter.offset} has a masked or shortened copy of its message, and "
                    f"{topic}[{record['partition']}] no longer has the message at "
                    f"{record['offset']}: let its producer send it again"
                )
            key, value = original.key, original.value
        if value is None:
            raise ConfigurationError(f"letter {letter.offset} is about a message without a value")
        return Sendable(topic, card_of(value) or key, value)


_AUDITED: Final = ("topic", "partition", "offset", "error_class", "field")


def card_of(value: bytes) -> bytes | None:
    """Return the card_id in a Transaction or Label, None if it cannot be read.

    >>> card_of(b'{"card_id": "card-7"}')
    b'card-7'
    """
    try:
        record = avro.decode(value)[1] if value[:2] == avro.MARKER else json.loads(value)
    except (BadMessage, ValueError, RecursionError):
        return None
    card = record.get("card_id") if isinstance(record, dict) else None
    return card.encode() if isinstance(card, str) and card else None


def _is_incomplete(copy: bytes | None, most: int) -> bool:
    return copy is not None and (len(copy) >= most or _MASKED.search(copy) is not None)
