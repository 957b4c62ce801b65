"""The process `python -m gateway run`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

import structlog
import uvloop

from database.accounts.api_keys import all_keys
from database.core.opening import open_database
from gateway.app import application
from gateway.background import Background
from gateway.policy_follower import PolicyFollower
from gateway.scoring.gateway import Gateway
from gateway.scoring.idempotency import MAX_REMEMBERED
from gateway.scoring.listener import Listener, decision_messages
from gateway.scoring.lookups import LookupSources
from gateway.scoring.reading import TransactionReader
from gateway.scoring.score_many import ScoreMany
from gateway.scoring.score_one import ScoreOne
from gateway.scoring.stored import StoredDecisions
from gateway.web.access import Keyring
from gateway.web.protocol import GatewayProtocol
from gateway.web.rates import Rates
from runtime.feature_store.redis import RedisFeatureStore
from runtime.kafka.non_blocking_producer import KafkaNonBlockingProducer
from runtime.kafka.reader import KafkaReader
from runtime.kafka.tail import KafkaTail
from runtime.process import ServiceProcess
from runtime.settings import Settings
from runtime.web.server import WebServer, bind_to, warn_of_plain_http, web_config
from schemas.errors import FatalError
from schemas.topics import DEAD_LETTER, DECISIONS, POLICY, TRANSACTIONS
from stream_features.operate.show import read_state

log = structlog.get_logger(__name__)
SERVICE: Final = "gateway"
WATCH_S: Final = 0.5
FLUSH_S: Final = 30.0
KEEP_ALIVE_S: Final = 75
STOP_S: Final = 10
"""Time that pending requests have to finish when the process is stopped."""


class GatewayService:
    """The web server and the clients of Kafka, Redis and the database that it works with."""

    def __init__(self, process: ServiceProcess) -> None:
        self._process, settings = process, process.settings
        self._settings, self._metrics = settings, process.metrics
        self._database = process.parts.enter_context(
            process.patiently(lambda: open_database(settings))
        )
        self._store = process.keep(RedisFeatureStore.from_settings(settings))
        process.create_topics()
        self._producer = KafkaNonBlockingProducer(settings, settings.topic(TRANSACTIONS))
        self._policy = process.patiently(self._follow)
        process.parts.callback(self._policy.stop)
        topics = [settings.topic(DECISIONS), settings.topic(DEAD_LETTER)]
        self._tail = process.patiently(lambda: KafkaTail(settings, topics, MAX_REMEMBERED))
        self._failure = ""
        self._server: WebServer | None = None
        self._background: Background | None = None

    def _follow(self) -> PolicyFollower:
        reader = KafkaReader(self._settings, self._settings.topic(POLICY))
        follower = PolicyFollower(reader)
        follower.start()
        return follower

    def run(self, bound: socket.socket) -> None:
        """Serve until the process is asked to stop, then flush accepted transactions to Kafka.

        Raises:
            FatalError: a part has failed, or Kafka did not accept every transaction.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve_http(bound))
        held = self._producer.flush(FLUSH_S)
        if held:
            log.error("accepted transactions were not delivered to Kafka", count=held)
        if self._failure or held:
            raise FatalError(self._failure or "Kafka does not answer")

    async def _serve_http(self, bound: socket.socket) -> None:
        settings, loop = self._settings, asyncio.get_running_loop()
        stored = StoredDecisions(self._database)
        gateway = Gateway(
            producer=self._producer,
            policy=lambda: self._policy.policy,
            original=stored.original,
            clock=self._process.clock,
            metrics=self._metrics,
        )
        listener = self._listen(gateway, loop.call_soon_threadsafe)
        rates = Rates(settings.api_rate, 1024.0 * settings.api_rate_kb, settings.api_rate_ms / 1000)
        keys = Keyring(
            self._load_keys,
            self._process.clock,
            rates,
            offline_s=settings.api_keys_offline.ms / 1000,
        )
        await keys.refresh()
        reader = TransactionReader.from_settings(settings, self._process.clock)
        max_line_bytes = settings.api_body_kb * 1024
        app = application(
            one=ScoreOne(
                gateway, reader, max_bytes=max_line_bytes, deadline_ms=settings.api_deadline_ms
            ),
            many=ScoreMany(
                gateway,
                reader,
                max_bytes=settings.api_batch_kb * 1024,
                max_line_bytes=max_line_bytes,
            ),
            sources=LookupSources(
                gateway=gateway,
                stored=stored.find,
                card=lambda card: read_state(
                    self._store, settings.key_prefix, "card", card, settings.label_delay.ms
                ),
            ),
            keys=keys,
            metrics=self._metrics,
            ready=self._process.not_ready,
            alive=self._process.dead,
            root_path=settings.api_root_path,
        )
        config = web_config(
            app,
            settings,
            protocol=GatewayProtocol,
            metrics=self._metrics,
            keep_alive_s=KEEP_ALIVE_S,
            stop_s=STOP_S,
            lifespan=False,
        )
        server = self._server = WebServer(config, self._process.stop)
        self._background = Background(ended=lambda: setattr(server, "should_exit", True))
        self._background.start("reloading the API keys", keys.keep_fresh())
        self._background.start("watching the gateway", self._watch(gateway, listener, server))
        host, port = bound.getsockname()[:2]
        warn_of_plain_http(host, settings)
        self._process.started(
            lambda: self._not_ready(gateway),
            lambda: self._failed(gateway, listener),
            host=host,
            port=port,
            tls=settings.tls_certificate is not None,
        )
        await server.serve(sockets=[bound])
        await self._background.stop()
        self._failure = self._failed(gateway, listener)

    def _listen(self, gateway: Gateway, call_on_loop: Callable[..., Any]) -> Listener:
        settings = self._settings
        listener = Listener(
            self._tail,
            transactions=settings.topic(TRANSACTIONS),
            decisions=settings.topic(DECISIONS),
            call_on_loop=call_on_loop,
            on_decided=gateway.decided,
            on_refused=gateway.refused,
            metrics=self._metrics,
        )
        self._process.parts.callback(listener.stop)
        listener.start()
        return listener

    def _load_keys(self) -> Any:
        with self._database.read() as connection:
            return all_keys(connection)

    def _not_ready(self, gateway: Gateway) -> str:
        """Return "" while it answers requests; without Kafka it answers with the fallback."""
        started = self._server is not None and self._server.started
        ended = gateway.failed or self._background_failed()
        return ended or ("" if started else "not serving yet")

    def _failed(self, gateway: Gateway, listener: Listener) -> str:
        """Return why the process must end, or "" if it need not."""
        return gateway.failed or listener.dead() or self._background_failed()

    def _background_failed(self) -> str:
        return "" if self._background is None else self._background.failed

    async def _watch(self, gateway: Gateway, listener: Listener, server: WebServer) -> None:
        """Update the metrics, and stop the server when a part has failed or the process stops."""
        while True:
            self._metrics.set("api_waiting", gateway.waiting)
            self._failure = self._failed(gateway, listener)
            self._metrics.set("ready", 0 if self._failure else 1)
            if self._failure or self._process.stop:
                server.should_exit = True
            await asyncio.sleep(WATCH_S)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Call this from the main thread."""
    with ServiceProcess(SERVICE, settings, low_latency=True) as process:
        decision_messages([])  # loads the compiled decoder
        bound = process.keep(bind_to(settings.api_host, settings.api_port, "FRAUD_API_PORT"))
        GatewayService(process).run(bound)
