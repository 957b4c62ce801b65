"""Fails if the private seam of Faust that the batch transport stands on changes."""

from __future__ import annotations

import inspect
from importlib.metadata import version

from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.drivers.aiokafka import Consumer, Transport

from stream_features.transport import FAUST_VERSION, BatchConsumer


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
