"""Fails if the private seam of Faust that the batch transport stands on changes."""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from runtime.kafka.adaptive_linger import AdaptiveLinger
from stream_features.host.transport import FAUST_VERSION, BatchConsumer, BatchConsumerThread


def test_the_version_read_is_the_version_installed() -> None:
    assert version("faust-streaming") == FAUST_VERSION


def test_getmany_is_still_the_seam() -> None:
    seam = inspect.signature(BaseConsumer._getmany)
    assert list(seam.parameters) == ["self", "active_partitions", "timeout"]
    assert "await self._getmany(" in inspect.getsource(BaseConsumer._wait_next_records)
    assert inspect.signature(BatchConsumer._getmany).parameters.keys() == seam.parameters.keys()


def test_seeking_still_ends_a_rebalance() -> None:
    from faust.tables.recovery import Recovery

    source = inspect.getsource(Recovery.on_recovery_completed)
    assert source.index("consumer.perform_seek()") < source.index("consumer.resume_flow()")


def test_the_transport_still_names_its_consumer_class() -> None:
    assert Transport.Consumer is Consumer


@pytest.mark.parametrize("change", ["generation", "flow", None])
def test_records_that_came_while_partitions_were_taken_over_are_read_again(
    change: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch may begin before a rebalance and end after the seek that it brought."""
    place, record = TP("t", 0), SimpleNamespace(offset=7)
    handled: list[Any] = []

    async def handle(records: Any, ends: Any) -> bool:
        handled.append(dict(records))
        return len(handled) < 2

    handler = SimpleNamespace(
        topics={"t"}, partitions=1, generation=1, wanted=set, poll_timeout=lambda: 0.1,
        handle=handle,
    )  # fmt: skip
    consumer = SimpleNamespace(handler=handler, flow_active=True)

    async def fetch(*_: Any) -> Any:
        handler.generation += change == "generation"
        consumer.flow_active = change != "flow"
        return {place: [record]}

    monkeypatch.setattr(AIOKafkaConsumerThread, "_fetch_records", fetch)
    thread: Any = object.__new__(BatchConsumerThread)
    thread.consumer, thread._linger, thread.handed = consumer, AdaptiveLinger(), {}
    thread.readable_end = lambda tp: None
    inner = SimpleNamespace(_fetcher=SimpleNamespace())
    assert asyncio.run(thread._fetch_records(inner, {place})) == {}
    assert handled == ([] if change else [{place: [record]}] * 2)
    assert thread.lost
