"""Faust wiring, nothing else: life cycle, consumer group, assignment. `__main__` runs it.

Topics must exist before the start. A worker killed and started again under the same `instance` is
the same static member: it gets its partitions back at once, without waiting for the session to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust

from stream_features.transport import batch_transport
from stream_features.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What the shell needs. `instance` must be unique and stable for each worker."""

    bootstrap: str
    group: str
    instance: str
    data_dir: Path
    session_timeout_s: float = 6.0


def build_app(settings: HostSettings, worker: Worker) -> faust.App:
    """Return a Faust application that feeds `worker`; agents may be added to it."""
    app = faust.App(
        settings.group,
        broker="kafka://" + settings.bootstrap.replace(",", ";kafka://"),
        consumer_group_instance_id=settings.instance,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 4,
        broker_max_poll_records=4096,
        broker_commit_interval=1.0,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        datadir=str(settings.data_dir),
        autodiscover=False,
    )
    transport = batch_transport(worker)
    app.transport = transport(app.conf.broker_consumer, app)

    async def received_by_batches(stream: Any) -> None:
        """Subscribe Faust to the batch topics; their records never come this way."""
        async for _ in stream:
            raise RuntimeError("a batch record reached an agent: the transport seam is broken")

    for topic in sorted(worker.topics):
        app.agent(app.topic(topic), name=f"batch-{topic}")(received_by_batches)

    async def on_revoked(*_: Any, **__: Any) -> None:
        await worker.revoked()

    app.on_partitions_revoked.connect(on_revoked, weak=False)
    return app
