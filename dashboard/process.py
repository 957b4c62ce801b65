"""The process `python -m dashboard run`."""

from __future__ import annotations

import asyncio

from dashboard.app import create_app
from dashboard.dead_letters.assembly import redrive
from dashboard.live.collector import build_collector
from dashboard.models.lent_registry import LentRegistry
from dashboard.parts import DashboardParts
from dashboard.review.case_counts import CaseCounts
from dashboard.review.label_sender import label_sender
from dashboard.web.health import unready, watch
from dashboard.web.vendor import require_charts
from database.core.opening import open_database
from runtime.process import ServiceProcess
from runtime.settings import Settings
from runtime.web.connection import BoundedConnection
from runtime.web.server import WebServer, bind_to, warn_of_plain_http, web_config

SERVICE = "dashboard"
KEEP_ALIVE_S = 30
SHUTDOWN_GRACE_S = 3
"""Time that open requests get after SIGTERM; event streams never end by themselves."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Call it in the main thread."""
    with ServiceProcess(SERVICE, settings) as process:
        require_charts()
        collector = build_collector(settings, process.clock)
        database = process.parts.enter_context(process.patiently(lambda: open_database(settings)))
        counts = CaseCounts()
        labels = process.parts.enter_context(
            label_sender(settings, database, process.clock, process.metrics, counts)
        )
        parts = DashboardParts(
            settings=settings,
            database=database,
            redrive=redrive(settings, database, process.clock),
            registry=process.keep(LentRegistry(settings)),
            metrics=process.metrics,
            collector=collector,
            labels=labels,
            case_counts=counts,
            clock=process.clock,
        )
        bound = process.keep(
            bind_to(settings.dashboard_host, settings.dashboard_port, "FRAUD_DASHBOARD_PORT")
        )
        config = web_config(
            create_app(parts, services=[lambda: watch(parts), collector.running]),
            settings,
            protocol=BoundedConnection,
            metrics=process.metrics,
            keep_alive_s=KEEP_ALIVE_S,
            stop_s=SHUTDOWN_GRACE_S,
            lifespan=True,
        )
        server = WebServer(config, process.stop)
        root = settings.dashboard_root_path
        scheme = "https" if settings.tls_certificate else "http"
        host, port = bound.getsockname()[:2]
        warn_of_plain_http(host, settings)

        def not_ready() -> str:
            starting = "" if server.started else "not serving yet"
            return starting or unready(parts) or labels.trouble

        process.started(not_ready, address=f"{scheme}://{host}:{port}{root}")
        asyncio.run(server.serve(sockets=[bound]))
