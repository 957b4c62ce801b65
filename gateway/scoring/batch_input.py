"""The transactions of a batch as they come in: a JSON array or one JSON object a line (NDJSON).

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
"""A line still to be decoded, an element of an array, or what stands in the place of one."""


class BatchInput(Protocol):
    """One body. `feed` takes the next piece of it, `last` says that it was the last one."""

    def feed(self, data: bytes, *, last: bool) -> Iterator[Item]:
        """Yield what is complete now.

        Raises:
            Problem: from here on nothing can be read.
        """


def batch_input(first: bytes, max_bytes: int) -> BatchInput:
    """Return the reader of a body that begins with `first`."""
    return Elements(max_bytes) if first.lstrip()[:1] == b"[" else Lines(max_bytes)


class Lines:
    """NDJSON; empty lines are passed over, one of more than `max_bytes` is a problem."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()

    def feed(self, data: bytes, *, last: bool) -> Iterator[Item]:
        """Yield the lines that are complete; see `BatchInput`."""
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
            yield Problem("too-large", f"send at most {self._max_bytes} bytes a transaction")
        elif line.strip():
            yield line


class Elements:
    """A JSON array of objects. An element that is none is a problem; broken JSON, or an element of
    more than `max_bytes` characters, ends all."""

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
        """Yield the elements that are complete; see `BatchInput`."""
        try:
            self._rest += self._text.decode(data, last)
        except UnicodeDecodeError:
            raise Problem("bad-request", "the array is not UTF-8 from here on") from None
        rest, at = self._rest, 0
        while True:
            at = _past_space(rest, at)
            if at == len(rest):
                break
            if self._state in ("open", "next"):
                at = self._separator(rest[at], at)
                continue
            if self._state == "done":
                raise Problem("bad-request", "something follows the array")
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
                break  # a number may go on
            if end - at > self._max_chars:
                raise self._broken()
            yield self._item(value)
            self._state, at = "next", end
        self._rest = rest[at:]
        if last and self._state != "done":
            raise Problem("bad-request", "the array does not end: ] is missing")

    def _separator(self, found: str, at: int) -> int:
        wanted = {"open": "[", "next": ",]"}[self._state]
        if found not in wanted:
            raise Problem("bad-request", f"the array is not JSON: {wanted} expected here")
        self._state = {"[": "first", ",": "element", "]": "done"}[found]
        return at + 1

    def _broken(self) -> Problem:
        return Problem(
            "bad-request",
            f"from here on the array is not JSON, or has more than {self._max_chars} characters a "
            "transaction",
        )

    def _item(self, value: object) -> Item:
        if self._twice:
            return Problem("bad-request", "JSON names a field twice: send each once")
        if not isinstance(value, dict):
            return Problem("bad-request", f"a {type(value).__name__} where an object belongs")
        return value


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
