"""Incremental parsing of a batch: a JSON array, or one JSON object per line (NDJSON).

Pure: pieces of the body go in, texts or objects come out.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, Final, Protocol

from gateway.web.problems import Problem

_SPACE: Final = " \t\r\n"
Item = bytes | dict[str, Any] | Problem
"""An undecoded line, an element of an array, or the problem that replaces one of them."""


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


class Lines:
    """NDJSON: blank lines are skipped, and a line of more than `max_bytes` becomes a problem."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()

    def feed(self, data: bytes, *, last: bool) -> Iterator[Item]:
        """Yield the completed lines; see `BatchInput`."""
        rest = self._rest
        rest += data
        start = 0
        while (end := rest.find(b"\n", start)) >= 0:
            yield from self._line(bytes(rest[start:end]))
            start = end + 1
        del rest[:start]
        if last:
            yield from self._line(bytes(rest))
            rest.clear()

    def _line(self, line: bytes) -> Iterator[Item]:
        if len(line) > self._max_bytes:
            yield Problem("too-large", f"send at most {self._max_bytes} bytes per transaction")
        elif line.strip():
            yield line


class Elements:
    """A JSON array of objects.

    An element of another type becomes a problem. Broken JSON, or an element of more than
    `max_bytes` characters, ends the batch.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_chars = max_bytes
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._twice = False
        self._state = "open"

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        self._twice = self._twice or len(record) < len(pairs)
        return record

    def feed(self, data: bytes, *, last: bool) -> Iterator[Item]:
        """Yield the completed elements; see `BatchInput`."""
        try:
            self._rest += self._text.decode(data, last)
        except UnicodeDecodeError:
            raise Problem("bad-request", "the rest of the array is not UTF-8") from None
        rest, at = self._rest, 0
        while True:
            at = _past_space(rest, at)
            if at == len(rest):
                break
            if self._state in ("open", "next"):
                at = self._separator(rest[at], at)
                continue
            if self._state == "done":
                raise Problem("bad-request", "the body has more than the array")
            if rest[at] == "]" and self._state == "first":
                self._state, at = "done", at + 1
                continue
            self._twice = False
            try:
                value, end = self._decoder.raw_decode(rest, at)
            except (ValueError, RecursionError):
                if last or len(rest) - at > self._max_chars:
                    raise self._broken() from None
                break
            if end == len(rest) and not last:
                break  # a number may continue in the next piece
            if end - at > self._max_chars:
                raise self._broken()
            yield self._item(value)
            self._state, at = "next", end
        self._rest = rest[at:]
        if last and self._state != "done":
            raise Problem("bad-request", "the array is not closed: ] is missing")

    def _separator(self, found: str, at: int) -> int:
        wanted = {"open": "[", "next": ",]"}[self._state]
        if found not in wanted:
            raise Problem("bad-request", f"the array is not JSON: one of {wanted} is expected here")
        self._state = {"[": "first", ",": "element", "]": "done"}[found]
        return at + 1

    def _broken(self) -> Problem:
        return Problem(
            "bad-request",
            f"the rest of the array is not JSON, or a transaction has more than {self._max_chars} "
            "characters",
        )

    def _item(self, value: object) -> Item:
        if self._twice:
            return Problem("bad-request", "the JSON object has a field twice")
        if not isinstance(value, dict):
            return Problem("bad-request", f"expected an object, found a {type(value).__name__}")
        return value


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
