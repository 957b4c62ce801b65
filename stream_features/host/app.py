"""The Faust application: life cycle, consumer group and assignment.

Topics must exist before the start. A worker that is killed and started again under the same
`worker_id` is the same static member and gets its partitions back without waiting for its session
to expire.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, Final

import faust
import structlog
from aiokafka.abc import AbstractTokenProvider

from runtime.kafka.access.tokens import TokenSource
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, ConfigurationError
from stream_features.host.transport import BatchHandler, batch_transport
from stream_features.worker.assembly import GROUP

log = structlog.get_logger(__name__)
SESSION_TIMEOUT_S: Final = 6.0
"""The shortest session time-out that brokers allow by default."""


def credentials(settings: Settings) -> Any:
    """Return the credentials with which Faust connects to Kafka, or None for plain text.

    Raises:
        ConfigurationError: a certificate or key cannot be read, or a setting is missing.
    """
    context = _tls(settings) if settings.kafka_security.endswith("SSL") else None
    if settings.kafka_security.startswith("SASL"):
        if settings.kafka_sasl_mechanism == "OAUTHBEARER":
            provider = _TokenProvider(TokenSource.from_settings(settings))
            return faust.OAuthCredentials(oauth_cb=provider, ssl_context=context)
        password = settings.kafka_password
        return faust.SASLCredentials(
            username=settings.kafka_username or "",
            password=password.get_secret_value() if password else "",
            ssl_context=context,
            mechanism=settings.kafka_sasl_mechanism,
        )
    return faust.SSLCredentials(context=context) if context is not None else None


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca)
    except OSError as error:
        raise ConfigurationError(f"FRAUD_KAFKA_CA {settings.kafka_ca}: {error}") from error
    if settings.kafka_certificate is not None:
        password = settings.kafka_key_password
        try:
            context.load_cert_chain(
                settings.kafka_certificate,
                settings.kafka_key,
                password.get_secret_value() if password else "",
            )
        except OSError as error:
            raise ConfigurationError(
                f"FRAUD_KAFKA_CERTIFICATE {settings.kafka_certificate}, FRAUD_KAFKA_KEY "
                f"{settings.kafka_key} or its password: {error}"
            ) from error
    return context


class _TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Gives aiokafka the tokens of a `TokenSource`."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def token(self) -> str:
        """Return a token; aiokafka takes an OSError for a broker that is away, and tries again."""
        try:
            found, _ = await asyncio.to_thread(self._source.token)
        except BrokerUnavailable as error:
            log.warning("waiting", reason=str(error))
            raise ConnectionError(str(error)) from error
        return found


def build_app(settings: Settings, worker: BatchHandler, data_dir: Path) -> faust.App:
    """Return a Faust application that feeds `worker`; agents may be added to it.

    `settings.worker_id` must be unique to each worker and stable; without one the worker is a
    dynamic member of the group. The contents of `data_dir` can be deleted at any time.
    """
    app = faust.App(
        settings.group(GROUP),
        broker="kafka://" + settings.bootstrap.replace(",", ";kafka://"),
        broker_credentials=credentials(settings),
        consumer_group_instance_id=settings.worker_id,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=SESSION_TIMEOUT_S / 4,
        broker_max_poll_records=4096,
        broker_commit_interval=1.0,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        datadir=str(data_dir),
        autodiscover=False,
    )
    transport = batch_transport(worker)
    app.transport = transport(app.conf.broker_consumer, app)

    async def received_by_batches(stream: Any) -> None:
        """Make Faust subscribe to the batch topics; their records never reach this agent."""
        async for _ in stream:
            raise RuntimeError("a batch record reached an agent: the transport seam is broken")

    for topic in sorted(worker.topics):
        app.agent(app.topic(topic), name=f"batch-{topic}")(received_by_batches)

    async def on_revoked(*_: Any, **__: Any) -> None:
        await worker.revoked()

    app.on_partitions_revoked.connect(on_revoked, weak=False)
    return app
