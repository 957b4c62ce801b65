"""Reads the topic `dead-letter`, newest first, and the messages that its letters are about.

Nothing is kept in memory: each question reads the part of the topic that it needs. All of it blocks
and may raise BrokerUnavailable.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from runtime.kafka.protocols import Message, PartitionReader
from schemas.codec import avro
from schemas.errors import BadMessage, BrokerUnavailable
from schemas.records import DeadLetter

AT_ONCE: Final = 2_000
"""Letters that are read in one go, from older to newer, while looking for the newest."""
MAX_SCANNED: Final = 100_000
"""Letters that one question looks through, at most."""
ANSWER_S: Final = 10.0
_PARTITION: Final = 0
"""The topic has one partition, so an offset names a letter."""

OpenReader = Callable[[str, Mapping[int, int]], PartitionReader]
"""Opens a reader of a topic at the given offset of each partition."""
Bounds = Callable[[str], Mapping[int, tuple[int, int]]]
"""Returns the first offset and the end of each partition of a topic."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter and its offset on the topic."""

    offset: int
    record: DeadLetter

    @property
    def subject(self) -> str:
        """Its name in the audit, which no other letter has, even if the topic is made anew."""
        return f"dead letter {self.offset} of {self.record['failed_at']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which letters are wanted; an empty text wants all. Topics are full names."""

    service: str = ""
    topic: str = ""
    error_class: str = ""
    field: str = ""

    def wants(self, record: DeadLetter) -> bool:
        """Return whether a letter is among those wanted."""
        return all(
            not wanted or wanted == (found or "")
            for wanted, found in (
                (self.service, record["service"]),
                (self.topic, record["topic"]),
                (self.error_class, record["error_class"]),
                (self.field, record["field"]),
            )
        )


@dataclass(frozen=True, slots=True)
class FoundLetters:
    """Letters without their messages, newest first.

    Older ones may be found before the offset `older`, if that is set.
    """

    letters: list[Letter]
    older: int | None


class DeadLetters:
    """The dead letters of one installation.

    Args:
        topic: full name of the topic.
    """

    def __init__(self, topic: str, open_reader: OpenReader, bounds: Bounds) -> None:
        self._topic, self._open_reader, self._bounds = topic, open_reader, bounds

    def newest(
        self, wanted: LetterFilter, *, limit: int, before: int | None = None
    ) -> FoundLetters:
        """Return the newest letters that are wanted, among those with an offset below `before`."""
        low, end = self._bounds(self._topic)[_PARTITION]
        stop = end if before is None else min(before, end)
        least = max(low, stop - MAX_SCANNED)
        found: list[Letter] = []
        while stop > least and len(found) < limit:
            start = max(stop - AT_ONCE, least)
            some = deque(
                (
                    Letter(letter.offset, {**letter.record, "value": None})
                    for letter in self._between(start, stop)
                    if wanted.wants(letter.record)
                ),
                maxlen=limit - len(found),
            )
            found += reversed(some)
            stop = found[-1].offset if len(found) == limit else start
        return FoundLetters(found, stop if stop > low else None)

    def at(self, offset: int) -> Letter | None:
        """Return one letter, None if it is not there or cannot be read."""
        return next(self.these([offset]), None)

    def these(self, offsets: Sequence[int]) -> Iterator[Letter]:
        """Yield the letters with these offsets, oldest first; missing ones are left out."""
        low, end = self._bounds(self._topic)[_PARTITION]
        wanted = {offset for offset in offsets if low <= offset < end}
        if wanted:
            between = self._between(min(wanted), max(wanted) + 1)
            yield from (letter for letter in between if letter.offset in wanted)

    def original(self, letter: Letter) -> Message | None:
        """Return the message that a letter is about, None if Kafka no longer has it.

        A letter has a copy, in which card numbers are masked and which is cut if it is long; the
        topic that it came from has all of it, for as long as that topic keeps its messages.
        """
        record = letter.record
        topic, partition, offset = record["topic"], record["partition"], record["offset"]
        low, end = self._bounds(topic).get(partition, (0, 0))
        if not low <= offset < end:
            return None
        messages = _read(self._open_reader(topic, {partition: offset}), offset + 1, partition)
        found = next((message for message in messages if message.offset == offset), None)
        return found if found is not None and _is_copied(record, found) else None

    def _between(self, start: int, stop: int) -> Iterator[Letter]:
        """Yield the readable letters with these offsets, oldest first."""
        reader = self._open_reader(self._topic, {_PARTITION: start})
        for message in _read(reader, stop, _PARTITION):
            try:
                name, record = avro.decode(message.value or b"")
            except BadMessage:
                continue
            if name == "DeadLetter":
                yield Letter(message.offset, cast(DeadLetter, record))


def _read(reader: PartitionReader, stop: int, partition: int) -> Iterator[Message]:
    """Yield the messages of a partition below the offset `stop`; close the reader at the end."""
    deadline = time.monotonic() + ANSWER_S
    try:
        while reader.positions()[partition] < stop:
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"Kafka did not answer within {ANSWER_S:.0f} s: try again")
            messages = reader.poll_batch(AT_ONCE, 0.1)
            if messages:
                deadline = time.monotonic() + ANSWER_S
            yield from (message for message in messages if message.offset < stop)
    finally:
        reader.close()


def _is_copied(record: DeadLetter, message: Message) -> bool:
    """Return whether a letter is about a message: the topic may have been made anew since."""
    return _alike(record["value"], message.value) and _alike(record["key"], message.key)


def _alike(copy: bytes | None, original: bytes | None) -> bool:
    """Return whether a copy, cut and with some characters masked, may be of the original."""
    if copy is None or original is None:
        return copy is original
    return len(copy) <= len(original) and all(_same(copy, original))


def _same(copy: bytes, original: bytes) -> Iterable[bool]:
    mask = ord("*")
    return (ours in (theirs, mask) for ours, theirs in zip(copy, original, strict=False))
