"""`python -m dashboard run` as a process: TLS, slow clients, the registry, an orderly end."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.ports import free_port
from devstack.service_process import Service
from devstack.stack import Stack
from runtime.kafka.model_registry import open_registry
from runtime.settings import load_settings
from runtime.web.connection import BoundedConnection
from schemas.errors import ConfigurationError
from tests.support.browser.visits import served
from tests.support.certificates import self_signed
from tests.support.pipeline import Pipeline
from tests.support.waiting import PATIENCE_S
from tests.unit.dashboard.test_models import event

PASSWORD = "a quiet walk by the sea"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return self_signed(tmp_path)


@pytest.fixture
def pipeline(stack: Stack, tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[Pipeline]:
    options = {
        "database_url": f"sqlite:///{tmp_path / 'fraud.db'}",
        "dashboard_port": str(free_port()),
        "tls_certificate": str(certificate[0]),
        "tls_key": str(certificate[1]),
    }
    with Pipeline(stack, tmp_path / "logs", **options) as made:
        yield made


def command(pipeline: Pipeline, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "dashboard", "people", *words, "--json", "-"],
        env={**pipeline.environment, "PATH": ""}, capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_first_admin_logs_in_over_tls_and_promotes_a_model(
    pipeline: Pipeline, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    secret = command(pipeline, "add", "jane", "--role", "admin")["one_time_password"]
    with open_registry(pipeline.settings) as registry:
        registry.register(event("new"))
    service = Service(
        "dashboard",
        ["-m", "dashboard", "run"],
        env=pipeline.environment,
        log_dir=pipeline.log_dir,
    )
    pipeline.services.append(service)
    service.start()
    service.wait_ready()
    address = f"https://localhost:{pipeline.environment['FRAUD_DASHBOARD_PORT']}"
    trusted = ssl.create_default_context(cafile=str(certificate[0]))
    with httpx.Client(
        base_url=address, verify=trusted, headers={"Origin": address}, timeout=PATIENCE_S
    ) as client:
        assert client.get("/healthz").text == "ok\n"
        assert client.get("/readyz").text == "ok\n"
        assert client.get("/metrics").status_code == 401
        spoofed = {"X-Forwarded-For": "203.0.113.9"}  # no proxy is trusted
        client.post("/login", data={"username": "jane", "password": secret}, headers=spoofed)
        cookie = next(iter(client.cookies.jar))
        assert (cookie.name, cookie.secure) == ("__Host-session", True)
        page = client.get("/password").text
        form = {"csrf": csrf(page), "old": secret, "new": PASSWORD, "again": PASSWORD}
        assert client.post("/password", data=form).status_code == 303
        token = client.cookies["__Host-session"]
        shown = client.get("/audit").text
        assert "<ins>127.0.0.1</ins>" in shown
        assert "203.0.113.9" not in shown
        page = client.get("/models").text
        step = {"csrf": csrf(page), "model_id": "new", "comment": "first"}
        assert client.post("/models/promote", data=step).status_code == 303
        assert "CHAMPION" in client.get("/models").text
        refused = client.post("/models/shadow", data=step, headers={"Accept": "text/html"})
        assert refused.status_code == 409
        assert "new is CHAMPION and cannot become SHADOW" in refused.text
        metrics = httpx.get(f"http://127.0.0.1:{service.health_port}/metrics").text
        assert 'fraud_ready{service="dashboard"} 1.0' in metrics
    with open_registry(pipeline.settings) as registry:
        state = registry.states().get("new")
    assert state is not None
    assert (state.stage, state.event["actor"], state.event["comment"]) == (
        "CHAMPION", "jane", "first",
    )  # fmt: skip
    service.stop()
    log = (tmp_path / "logs" / "dashboard.log").read_text()
    assert json.loads(log.splitlines()[-1])["event"] == "stopped"
    assert [line for line in log.splitlines() if '"error"' in line] == []
    for hidden in (secret, PASSWORD, token, csrf(page)):
        assert hidden not in log


def csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


class Hasty(BoundedConnection):
    head_s = 0.1


def test_a_client_that_sends_no_head_is_hung_up_on() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with served(app, Hasty) as address:
        port = int(address.rsplit(":", 1)[1])
        for begun in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
                client.sendall(begun)
                assert client.recv(100) == b""  # closed
        with httpx.Client(base_url=address, timeout=PATIENCE_S) as good:
            assert [good.get("/").status_code for _ in range(3)] == [204] * 3


def test_settings_that_do_not_fit_are_named(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    from dashboard.process import run

    database = f"sqlite:///{tmp_path / 'fraud.db'}"
    with pytest.raises(ConfigurationError, match="both FRAUD_TLS_CERTIFICATE and FRAUD_TLS_KEY"):
        run(load_settings(database_url=database, tls_certificate=certificate[0]))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"FRAUD_DASHBOARD_PORT {port}"):
            run(load_settings(database_url=database, dashboard_port=port))
