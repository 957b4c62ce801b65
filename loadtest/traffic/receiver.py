"""Reads the decisions in a process of its own, and notes when it saw each."""

from __future__ import annotations

import gc
import signal
import time
from collections import deque
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

import numpy as np

from loadtest.traffic.answers import Answers, read_answers
from loadtest.traffic.sender import Failed
from runtime.kafka.reader import KafkaReader, end_offsets
from runtime.logs import configure_logging
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, FraudError
from schemas.topics import DECISIONS

REPORT_EVERY_NS: Final = 50_000_000
SHOWN: Final = 4
"""Whole decisions passed on with each report, to be shown in the live view."""


class ReceiverReport(NamedTuple):
    """The answers since the last report; `newest` has the messages of some reviews and blocks."""

    answers: Answers
    newest: list[bytes]


def run_receiver(settings: Settings, pipe: Connection) -> None:
    """Send True once it reads, then reports until a message comes. Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it and ends this process
    configure_logging(settings, "receiver")
    gc.disable()
    try:
        topic = settings.topic(DECISIONS)
        reader = KafkaReader(settings, topic, end_offsets(settings, topic))
        read_answers([], 0)  # compiles the kernels before anything is measured
        reader.poll_batch(1, 0.2)
        pipe.send(True)
        _follow(reader, pipe)
        reader.close()
    except FraudError as error:
        pipe.send(Failed(str(error)))
    except (EOFError, BrokenPipeError):
        return  # the parent is gone


def _follow(reader: KafkaReader, pipe: Connection) -> None:
    held: list[Answers] = []
    newest: deque[bytes] = deque(maxlen=SHOWN)
    reported = time.monotonic_ns()
    while not pipe.poll():
        try:
            messages = reader.poll_batch(10_000, 0.02)
        except BrokerUnavailable:
            continue  # the broker will come back; the parent's time-out limits the wait
        now = time.monotonic_ns()
        if messages:
            values = [message.value or b"" for message in messages]
            answers = read_answers(values, now)
            held.append(answers)
            newest += [values[row] for row in np.flatnonzero(answers.action > 0)[-SHOWN:]]
        if held and now - reported > REPORT_EVERY_NS:
            pipe.send(ReceiverReport(Answers.join(held), list(newest)))
            held.clear()
            newest.clear()
            reported = now
