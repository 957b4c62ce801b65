"""Incremental parsing of a batch: a JSON array, or one JSON object per line (NDJSON).

Pure: pieces of the body go in, the bytes of each transaction come out. Every byte is looked at
once, however many pieces the body comes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

from gateway.web.problems import Problem

Item = bytes | Problem
"""A line or an element of an array, not decoded, or the problem that replaces it."""
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_IN_TEXT: Final = re.compile(rb'(?:[^"\\]|\\.)*+', re.DOTALL)
_UP_TO_BRACKET: Final = re.compile(rb'[^"{}\[\]]*+(?:"(?:[^"\\]|\\.)*+"[^"{}\[\]]*+)*+', re.DOTALL)
"""Whatever contains no bracket outside of texts; ends before a text that is not complete."""
_SCALAR: Final = re.compile(rb"[^ \t\r\n,\]]*+")


class BatchInput(Protocol):
    """The parser of one body."""

    def feed(self, data: bytes, *, last: bool) -> Iterator[Item]:
        """Take the next piece of the body, and yield the items that it completes.

        Raises:
            Problem: the rest of the body cannot be parsed.
        """


def batch_input(first: bytes, max_bytes: int) -> BatchInput:
    """Return the parser of a body that begins with `first`: an array begins with a bracket."""
    return Elements(max_bytes) if first.lstrip()[:1] == b"[" else Lines(max_bytes)


class _Buffer:
    """The bytes of one item, of which no more than `max_bytes` are kept."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._long = False

    def __bool__(self) -> bool:
        """Return whether anything has been added."""
        return self._long or bool(self._data)

    def add(self, data: bytes) -> None:
        """Append to the item."""
        if not self._long:
            self._data += data
            self._long = len(self._data) > self._max_bytes
            if self._long:
                self._data.clear()

    def take(self) -> Item:
        """Return the item, or the problem that it is too long, and begin the next one."""
        item: Item = bytes(self._data)
        if self._long:
            item = Problem("too-large", f"send at most {self._max_bytes} bytes per transaction")
        self._data.clear()
        self._long = False
        return item


class Lines:
    """NDJSON: blank lines are skipped, and a line of more than `max_bytes` becomes a problem."""

    def __init__(self, max_bytes: int) -> None:
        self._line = _Buffer(max_bytes)

    def feed(self, data: bytes, *, last: bool) -> Iterator[Item]:
        """Yield the completed lines; see `BatchInput`."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            if self._line or part.strip():
                self._line.add(part)
                yield from self._completed()
        self._line.add(rest)
        if last:
            yield from self._completed()

    def _completed(self) -> Iterator[Item]:
        line = self._line.take()
        if isinstance(line, Problem) or line.strip():
            yield line


class Elements:
    """A JSON array: its elements, whatever they are; one of more than `max_bytes` is a problem.

    Here they are only told apart, by brackets and texts. What is wrong between them ends the batch.
    """

    def __init__(self, max_bytes: int) -> None:
        self._element = _Buffer(max_bytes)
        self._state = "open"
        self._depth = 0
        self._in_text = self._in_scalar = self._escaped = False

    def feed(self, data: bytes, *, last: bool) -> Iterator[Item]:
        """Yield the completed elements; see `BatchInput`."""
        at = 0
        while at < len(data):
            if self._state == "within":
                end = self._skip(data, at)
                self._element.add(data[at:end])
                at = end
                if self._state != "within":
                    yield self._element.take()
                continue
            at = _end(_SPACE, data, at)
            if at < len(data):
                at = self._between(data[at : at + 1], at)
        if last and self._state != "done":
            raise Problem("bad-request", "the array is not closed: ] is missing")

    def _between(self, found: bytes, at: int) -> int:
        """Take what stands between two elements, or begin one; return where to go on."""
        if self._state == "done":
            raise Problem("bad-request", "the body has more than the array")
        if self._state in ("first", "element") and found not in b",]}":
            self._state = "within"
            self._in_scalar = found not in b'"{['
            return at
        wanted = {"open": b"[", "next": b",]", "first": b"]", "element": b""}[self._state]
        if found not in wanted:
            expected = wanted.decode() or "an element"
            raise Problem(
                "bad-request", f"the rest of the array is not JSON: {expected} is expected here"
            )
        self._state = {b"[": "first", b",": "element", b"]": "done"}[found]
        return at + 1

    def _skip(self, data: bytes, at: int) -> int:
        """Return the end of the begun element, or of `data` if it goes on in the next piece."""
        if self._escaped:
            at, self._escaped = at + 1, False
        while at < len(data):
            if self._in_scalar:
                at = _end(_SCALAR, data, at)
                self._in_scalar = at == len(data)
            elif self._in_text:
                at = _end(_IN_TEXT, data, at)
                if at < len(data):  # at the closing quote, or at a backslash that ends the piece
                    self._escaped = data[at : at + 1] == b"\\"
                    self._in_text = self._escaped
                    at += 1
            else:
                at = self._to_bracket(data, at)
            if self._depth == 0 and not self._in_text and not self._in_scalar:
                self._state = "next"
                break
        return at

    def _to_bracket(self, data: bytes, at: int) -> int:
        """Return where the next bracket or incomplete text has been entered or left."""
        at = _end(_UP_TO_BRACKET, data, at) if self._depth else at
        found = data[at : at + 1]
        if found == b'"':
            self._in_text = True
        elif found:
            self._depth += 1 if found in b"{[" else -1
        return min(at + 1, len(data))


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    found = pattern.match(data, at)
    return at if found is None else found.end()
