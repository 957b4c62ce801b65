"""The monitor over framed standard input and output, on the clock of the frames.

A frame is a 4-byte little-endian length and so many bytes: a line of JSON and a raw Avro value. In:
`{"topic", "timestamp"[, "now"]}` and the value of a message (of `models` with its "key"), or
`{"now", "flush": true}`. The answer to a flush is what is due by then: frames of `{"topic"}` and a
value, then `{"done": now}`. Topics have their plain names. Used by the simulation of the loop.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

from monitor.observe.served_models import Models
from monitor.service import FOLLOWED, Monitor, Options
from runtime.clock import Clock, ManualClock
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.errors import UndecodableMessage
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent, Stage
from schemas.topics import MODELS

MAX_ROWS: Final = 5_000
EVERY_MS: Final = 60_000
"""How much of the frames' time goes by before the monitor sees a batch, without a flush."""
MAX_BYTES: Final = 16_000_000
_LENGTH: Final = struct.Struct("<I")
_TOPICS: Final = frozenset(spec.name for spec in FOLLOWED)


def frames(stream: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield header and value of each frame until the stream ends.

    Raises:
        UndecodableMessage: a frame is cut short, too long or has no header.
    """
    while head := stream.read(_LENGTH.size):
        size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else -1
        if not 0 <= size <= MAX_BYTES:
            raise UndecodableMessage(f"a frame of {size} bytes: at most {MAX_BYTES} are read")
        body = stream.read(size)
        line, _, value = body.partition(b"\n")
        try:
            header = json.loads(line)
        except ValueError as error:
            raise UndecodableMessage(f"a frame without a header of JSON: {error}") from error
        if len(body) < size or not isinstance(header, dict):
            raise UndecodableMessage("a frame is cut short, or its header is no object")
        yield header, value


def frame(header: dict[str, Any], value: bytes = b"") -> bytes:
    """Return one frame."""
    body = json.dumps(header).encode() + b"\n" + value
    return _LENGTH.pack(len(body)) + body


class PipedRegistry:
    """Changes stages as the only writer there is: each step is checked against `states`."""

    def __init__(
        self, states: ModelStates, publish: Callable[[str, bytes], None], clock: Clock
    ) -> None:
        self._states, self._publish, self._clock = states, publish, clock

    def change(self, model_id: str, stage: Stage, *, actor: str, comment: str) -> ModelEvent:
        """Put a model at a stage. Raises ImpossibleTransition."""
        event = self._states.changed(
            model_id,
            stage,
            actor=actor,
            comment=comment,
            share=None,
            occurred_at=self._clock.now_ms(),
        )
        self._publish(model_id, avro.encode("ModelEvent", event))
        return event


def pipe(options: Options, currencies: CurrencyTable, source: BinaryIO, sink: BinaryIO) -> None:
    """Serve frames until the input ends.

    Raises:
        UndecodableMessage: a frame is not one.
    """
    clock = ManualClock()
    models = Models()

    def publish(key: str, value: bytes) -> None:
        monitor.outbox.append((MODELS, key.encode(), value))
        sent = Message(MODELS.name, 0, 0, clock.now_ms(), key.encode(), value)
        monitor.receive(MODELS.name, [sent])

    monitor = Monitor(
        options,
        clock=clock,
        metrics=Metrics("monitor"),
        currencies=currencies,
        models=models,
        registry=PipedRegistry(models.states, publish, clock),
    )
    batches: dict[str, list[Message]] = {spec.name: [] for spec in FOLLOWED}

    def hand_over() -> None:
        """Give everything to the monitor; the order of topics does not matter but for models."""
        for topic, batch in batches.items():
            monitor.receive(topic, batch)
            batches[topic] = []

    handed = 0
    for header, value in frames(source):
        if header.get("flush"):
            hand_over()
            _move(clock, int(header["now"]))
            monitor.due()
            while monitor.outbox:
                spec, key, written = monitor.outbox.popleft()
                sink.write(frame({"topic": spec.name, "key": key.decode()}, written))
            sink.write(frame({"done": clock.now_ms()}))
            sink.flush()
            continue
        topic, timestamp = str(header.get("topic")), header.get("timestamp")
        if topic not in _TOPICS or not isinstance(timestamp, int):
            raise UndecodableMessage(f"a frame of topic {topic} at {timestamp}: not followed")
        now = int(header.get("now", timestamp))
        if topic == MODELS.name or len(batches[topic]) == MAX_ROWS or now >= handed + EVERY_MS:
            hand_over()
            handed = now
        _move(clock, now)
        key_text = header.get("key")
        encoded = key_text.encode() if isinstance(key_text, str) else None
        batches[topic].append(Message(topic, 0, 0, timestamp, encoded, value or None))
        if topic == MODELS.name:
            hand_over()
    hand_over()


def _move(clock: ManualClock, now_ms: int) -> None:
    clock.advance(max(now_ms - clock.now_ms(), 0))
