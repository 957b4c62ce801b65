"""A real Redis that is away, full, loses answers or speaks TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis

from devstack.servers.redis import RedisServer
from devstack.stack import Stack
from runtime.feature_store.protocol import NO_CURSOR, Commit, FeatureStore
from runtime.feature_store.redis import RedisFeatureStore
from schemas.errors import ConfigurationError, StoreUnavailable
from tests.support.certificates import self_signed
from tests.support.runtime.commits import HEADER, TOPIC, everything
from tests.support.waiting import until


def test_a_store_that_is_away_is_a_temporary_error(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "data", tmp_path)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as other:
            other.config_set("appendfsync", "always")  # else a kill may cost the last second
        store = RedisFeatureStore(server.url, timeout_s=2)
        epoch = store.acquire(0).epoch
        assert store.commit(everything(b"", epoch, NO_CURSOR)).accepted
        server.kill()
        calls: list[Callable[[], object]] = [
            store.ping,
            lambda: store.load([b"card"]),
            lambda: store.acquire(0),
            lambda: store.positions([0]),
            lambda: store.commit(Commit(epochs={0: epoch})),
            lambda: store.exchange_watermark("one", 1),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable):
                call()
        server.start()
        assert store.load([b"card"]) == [b"a blob"]
        assert store.acquire(0) == (epoch + 1, {TOPIC: 100}, b"vectors")
        store.close()
    finally:
        server.stop()


class Relay:
    """Stands before a server: takes TLS off (the bundled one is built without), or loses an answer.

    Args:
        tls: certificate and key to show. lose: a request with these bytes gets no answer.
    """

    def __init__(
        self, url: str, tls: tuple[Path, Path] | None = None, lose: bytes | None = None
    ) -> None:
        self._tls: ssl.SSLContext | None = None
        if tls is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*tls)
        self._target = urlsplit(url)
        self._lose = lose
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                incoming, _ = self._listening.accept()
            except OSError:
                return  # closed
            try:
                with incoming, self._connected() as onward:
                    if self._tls is None:
                        self._pass_on(incoming, onward)
                    else:
                        with self._tls.wrap_socket(incoming, server_side=True) as opened:
                            self._pass_on(opened, onward)
            except ssl.SSLError:
                continue  # the client did not trust us

    def _connected(self) -> socket.socket:
        if self._target.scheme == "unix":
            onward = socket.socket(socket.AF_UNIX)
            onward.connect(unquote(self._target.path))
            return onward
        return socket.create_connection((str(self._target.hostname), self._target.port or 0))

    def _pass_on(self, incoming: socket.socket, onward: socket.socket) -> None:
        while request := incoming.recv(65_536):
            onward.sendall(request)
            answer = onward.recv(65_536)
            if self._lose is not None and self._lose in request:
                return
            incoming.sendall(answer)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def test_a_commit_whose_answer_was_lost_shows_in_the_cursor(tmp_path: Path) -> None:
    """It was applied: the next acquire tells, also after a restart, and it is not applied again."""
    server = RedisServer(tmp_path / "data", tmp_path)
    server.start()
    store = RedisFeatureStore(server.url)
    relay = Relay(server.url, lose=b"FCALL")
    try:
        epoch = store.acquire(0).epoch
        losing = RedisFeatureStore(f"redis://127.0.0.1:{relay.port}/0")
        with pytest.raises(StoreUnavailable):
            losing.commit(everything(b"", epoch, NO_CURSOR))
        losing.close()
        for _ in range(2):
            owned = store.acquire(0)
            assert (owned.cursors, owned.outbox) == ({TOPIC: 100}, b"vectors")
            assert not store.commit(everything(b"", owned.epoch, NO_CURSOR)).accepted
            assert store.load([b"merchant"]) == [HEADER + b"r" * 14]
            with redis.Redis.from_url(server.url) as client:
                client.execute_command("FUNCTION", "FLUSH")  # lost with a server that was replaced
            server.restart()
            until(lambda: answers(store), "the store answers again")
    finally:
        relay.close()
        store.close()
        server.stop()


def answers(store: FeatureStore) -> bool:
    try:
        store.ping()
    except StoreUnavailable:
        return False
    return True


def test_a_full_store_refuses_a_commit_whole_and_takes_it_later(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "data", tmp_path)
    server.start()
    try:
        store = RedisFeatureStore(server.url)
        epoch = store.acquire(0).epoch
        with redis.Redis.from_url(server.url) as other:
            other.config_set("maxmemory", 1)
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                store.commit(everything(b"", epoch, NO_CURSOR))
            assert store.load([b"card", b"merchant", b"device"]) == [None, None, None]
            assert store.positions([0]) == {0: {}}
            other.config_set("maxmemory", 0)
        assert store.commit(everything(b"", epoch, NO_CURSOR)).accepted
        store.close()
    finally:
        server.stop()


def test_tls_is_spoken_and_the_certificate_checked(
    stack: Stack, prefix: bytes, tmp_path: Path
) -> None:
    cert, private = self_signed(tmp_path)
    relay = Relay(stack.redis_url, tls=(cert, private))
    url = f"rediss://127.0.0.1:{relay.port}/0"
    try:
        with pytest.raises(StoreUnavailable, match=r"certificate|CERTIFICATE"):
            RedisFeatureStore(url, prefix).ping()
        store = RedisFeatureStore(url, prefix, ca_file=str(cert))
        epoch = store.acquire(0).epoch
        assert store.commit(everything(prefix, epoch, NO_CURSOR)).accepted
        assert store.load([prefix + b"card"]) == [b"a blob"]
        store.close()
    finally:
        relay.close()


def test_addresses_that_cannot_work_are_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="FRAUD_REDIS_URL"):
        RedisFeatureStore("localhost:6379")
    with pytest.raises(ConfigurationError, match="rediss"):
        RedisFeatureStore("redis://localhost", ca_file="ca.pem")
