"""Sends alerts to people through apprise (Slack, mail, webhooks …), on a separate thread.

A receiver that is down never holds the monitor up: each one is tried a few times, then the failure
is counted and logged. The alert is on the `alerts` topic in any case.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any, Final

import structlog

from runtime.metrics import Metrics
from schemas.errors import ConfigurationError
from schemas.records import Alert

log = structlog.get_logger(__name__)
WAITING: Final = 1_000
"""Alerts that may wait to be sent; further ones are dropped and counted."""
WAITS_S: Final = (1.0, 5.0, 30.0)
_KINDS: Final = {"INFO": "info", "WARNING": "warning", "CRITICAL": "failure"}


class Notifier:
    """Sends alerts to `urls` in apprise's notation. Call `close` at the end.

    Raises:
        ConfigurationError: apprise does not know a URL. The text leaves out the URL, a secret.
    """

    def __init__(
        self, urls: Sequence[str], metrics: Metrics, *, waits_s: Sequence[float] = WAITS_S
    ) -> None:
        self._metrics = metrics
        self._waits_s = tuple(waits_s)
        self._receivers = [_receiver(url, place) for place, url in enumerate(urls, start=1)]
        self._queue: queue.Queue[Alert | None] = queue.Queue(WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="notify", daemon=True)
        if self._receivers:
            self._thread.start()

    def send(self, alert: Alert) -> None:
        """Queue an alert for sending; returns at once."""
        if not self._receivers:
            return
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self._metrics.count("notifications", outcome="dropped")

    def close(self, timeout_s: float = 5.0) -> None:
        """Send the waiting alerts, without retries, for at most `timeout_s`."""
        if not self._thread.is_alive():
            return
        self._stop.set()
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            log.warning("alerts were not sent", count=self._queue.qsize())
            return
        self._thread.join(timeout_s)

    def _send_all(self) -> None:
        while (alert := self._queue.get()) is not None:
            for place, receiver in enumerate(self._receivers, start=1):
                self._send(receiver, place, alert)

    def _send(self, receiver: Any, place: int, alert: Alert) -> None:
        title = f"[{alert['severity']}] {alert['rule']}"
        detail = "\n".join(f"{name}: {value}" for name, value in alert["detail"].items())
        for wait_s in (*self._waits_s, None):
            try:
                sent = receiver.notify(
                    title=title, body=f"{alert['summary']}\n{detail}",
                    notify_type=_KINDS[alert["severity"]],
                )  # fmt: skip
            except Exception as error:  # plug-ins raise anything; the monitor must go on
                log.warning("a receiver failed", receiver=place, kind=type(error).__name__)
                sent = False
            if sent:
                self._metrics.count("notifications", outcome="sent")
                return
            if wait_s is None or self._stop.wait(wait_s):
                break
        self._metrics.count("notifications", outcome="failed")
        log.error("an alert could not be sent", receiver=place, rule=alert["rule"])


def _receiver(url: str, place: int) -> Any:
    import apprise

    receiver = apprise.Apprise()
    if not receiver.add(url):
        raise ConfigurationError(
            f"FRAUD_ALERT_URLS: address {place} is not one of apprise's: write for example "
            "slack://…, mailto://…, json://host:port/path"
        )
    return receiver
