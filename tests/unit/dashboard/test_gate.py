"""CSRF, Origin, security headers, bodies, and event streams that end with their session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest
from fastapi import APIRouter
from sse_starlette import EventSourceResponse
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from dashboard.web import gate
from dashboard.web.gate import MAX_BYTES
from dashboard.web.headers import HEADERS
from database.accounts import sessions
from database.accounts.sessions import Session
from runtime.web.bodies import Disconnected, RefusedBody, read_body
from schemas.errors import DatabaseUnavailable
from tests.support.browser.visits import served
from tests.support.dashboard.site import ADDRESS, Site, log_in
from tests.support.waiting import PATIENCE_S

READY = ("fraud_ready", {"service": "dashboard"})


def logged_out(site: Site, client: httpx.Client) -> bool:
    return client.get("/models").status_code == 303


@pytest.mark.parametrize("token", [None, "", "wrong", "é"])
def test_a_change_without_the_sessions_csrf_token_is_refused(site: Site, token: str | None) -> None:
    client = site.person("viewer")
    del client.headers["X-CSRF-Token"]
    assert client.post("/logout", data={} if token is None else {"csrf": token}).status_code == 403
    if token is not None:
        header = {"X-CSRF-Token": token.encode("latin-1")}
        assert client.post("/logout", headers=header).status_code == 403
    assert not logged_out(site, client)


def test_the_token_of_another_session_is_worth_nothing(site: Site) -> None:
    client, other = site.person("viewer"), site.person("admin")
    theirs = {"X-CSRF-Token": site.csrf(other)}
    assert client.post("/logout", headers=theirs).status_code == 403
    assert not logged_out(site, client)


def test_the_token_counts_in_a_form_and_in_a_header(site: Site) -> None:
    by_form, by_header = site.person("viewer"), site.person("analyst")
    del by_form.headers["X-CSRF-Token"]
    assert by_form.post("/logout", data={"csrf": site.csrf(by_form)}).status_code == 303
    assert by_header.post("/logout").status_code == 303


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.test", "https://dashboard.test", "x"]
)
def test_a_change_from_another_site_is_refused(site: Site, origin: str | None) -> None:
    client = site.person("viewer")
    site.add("jane", "viewer")
    stranger = site.stranger()
    for browser in (client, stranger):
        del browser.headers["Origin"]
        if origin is not None:
            browser.headers["Origin"] = origin
    assert client.post("/logout").status_code == 403
    assert not logged_out(site, client)
    assert log_in(stranger, "jane").status_code == 403  # nobody is logged in as somebody else


def test_a_get_changes_nothing(site: Site) -> None:
    client = site.person("admin")
    for path in ("/logout", "/people/admin/disable", "/models/promote"):
        assert client.get(path).status_code == 405
    assert not logged_out(site, client)


def test_every_answer_has_the_security_headers(site: Site) -> None:
    client = site.person("admin")

    @site.app.get("/broken")
    def broken() -> None:
        raise RuntimeError("what strangers must not read")

    quiet = site.stranger(cookies=client.cookies, raise_server_exceptions=False)
    answers = [
        client.get("/models"),
        client.get("/static/style.css"),
        client.get("/static/missing.js"),
        client.get("/healthz"),
        client.get("/nowhere"),
        client.post("/models/nonsense"),
        client.post("/logout", content=b"x" * (MAX_BYTES + 1)),
        site.stranger().get("/login"),
        site.stranger().get("/models"),
    ]
    with capture_logs() as logs:
        answers.append(quiet.get("/broken"))
    assert [(each["event"], each["path"]) for each in logs] == [("request failed", "/broken")]
    codes = [answer.status_code for answer in answers]
    assert codes == [200, 200, 404, 200, 404, 422, 413, 200, 303, 500]
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, answer.url
        kept = "no-cache" if "/static/" in str(answer.url) else "no-store"
        assert answer.headers["cache-control"] == kept
    assert "must not read" not in answers[-1].text
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_bodies_that_are_too_large_are_refused_before_they_are_read(site: Site) -> None:
    client = site.person("admin")
    for most, status in ((MAX_BYTES - 100, 400), (MAX_BYTES + 1, 413)):
        answer = client.post("/people", content=b"x" * most, headers={"Content-Type": "text/plain"})
        assert (answer.status_code == 413) == (status == 413)
    assert site.stranger().post("/login", content=b"x" * (MAX_BYTES + 1)).status_code == 413
    read = 0

    async def endless() -> Message:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    with pytest.raises(RefusedBody, match="more than 5000 bytes"):
        asyncio.run(read_body(endless, max_bytes=5000, within_s=60.0))
    assert read == 6


def test_a_body_that_comes_too_slowly_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "SLOW_S", 0.05)
    with served(site.app) as address:
        host, port = address.removeprefix("http://").split(":")

        async def dribble() -> bytes:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\nusername="
            )
            answer = await reader.read()  # to the end: the connection is closed
            writer.close()
            return answer

        answer = asyncio.run(asyncio.wait_for(dribble(), 60.0))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not come within 0.05 s" in answer


def test_a_client_that_leaves_in_mid_body_is_let_go() -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(Disconnected):
        asyncio.run(read_body(gone, max_bytes=10, within_s=1.0))


@pytest.mark.parametrize("kind", ["sse", "plain"])
def test_an_event_stream_ends_with_its_session(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    monkeypatch.setattr(gate, "SESSION_CHECK_S", 0.0)
    router = APIRouter()

    async def events() -> AsyncIterator[str]:
        while True:
            yield "tick" if kind == "sse" else "data: tick\n\n"
            await asyncio.sleep(0.01)

    @router.get("/events", response_model=None)
    async def stream() -> StreamingResponse | EventSourceResponse:
        if kind == "sse":
            return EventSourceResponse(events())
        return StreamingResponse(events(), media_type="text/event-stream")

    site.app.include_router(router)
    token = site.person("viewer").cookies["session"]
    with (
        served(site.app) as address,
        httpx.Client(base_url=address, cookies={"session": token}, timeout=PATIENCE_S) as client,
        client.stream("GET", "/events") as answer,
    ):
        seen = 0
        for line in answer.iter_lines():
            seen += line == "data: tick"
            if seen == 3:
                with site.database.begin() as connection:
                    sessions.end_all(connection, "viewer")
        assert 3 <= seen < 1000
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_without_a_database_pages_say_so_and_health_checks_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site.person("viewer")

    def away() -> None:
        raise DatabaseUnavailable("connection to db-7.internal (10.0.0.7) refused")

    assert client.get("/readyz").status_code == 200
    assert site.parts.metrics.registry.get_sample_value(*READY) == 1

    monkeypatch.setattr(type(site.database), "read", lambda _self: away())
    monkeypatch.setattr(type(site.database), "begin", lambda _self: away())
    answer = client.get("/models")
    assert answer.status_code == 503
    assert "cannot answer at the moment" in answer.text
    assert client.get("/healthz").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.text) == (503, "not ready\n")
    assert site.parts.metrics.registry.get_sample_value(*READY) == 0
    refused = log_in(site.stranger(), "jane")
    bogus = site.stranger(cookies={"session": "x" * 43}).get("/models")
    assert (refused.status_code, bogus.status_code) == (503, 503)
    for told in (answer, refused, bogus):
        assert "db-7" not in told.text
        assert "10.0.0.7" not in told.text


def test_a_websocket_is_refused(site: Site) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), site.stranger().websocket_connect("/models"):
        pass


def test_pages_of_ours_are_reached_by_their_own_name_only(site: Site) -> None:
    client = site.person("viewer")
    answer = client.post("/logout", headers={"Host": "evil.test", "Origin": ADDRESS})
    assert answer.status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_whatever_may_change_something_needs_the_token_and_our_origin(
    site: Site, method: str
) -> None:
    done = []

    @site.app.api_route("/thing", methods=[method])
    def change() -> None:
        done.append(method)

    client = site.person("admin")
    without_token = {"X-CSRF-Token": ""}
    assert client.request(method, "/thing", headers=without_token).status_code == 403
    assert client.request(method, "/thing", headers={"Origin": "http://evil"}).status_code == 403
    assert done == []
    assert client.request(method, "/thing").status_code == 200
    assert done == [method]


def test_the_session_of_an_event_stream_is_looked_up_every_two_seconds(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: clock.now))
    seen: list[float] = []

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        with site.database.begin() as connection:
            sessions.end_all(connection, "viewer")
        for clock.now in (0.5, 1.9, 2.0, 2.1):
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})

    async def sent(message: Message) -> None:
        if message.get("body") == b"tick":
            seen.append(clock.now)

    async def received() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    token = site.person("viewer").cookies["session"]

    def find(token: str) -> Session | None:
        with site.database.read() as connection:
            return sessions.find(connection, token, now_ms=site.clock.now_ms())

    scope = {
        "type": "http", "method": "GET", "path": "/events", "scheme": "http", "query_string": b"",
        "headers": [(b"cookie", f"session={token}".encode())], "server": ("dashboard.test", 80),
    }  # fmt: skip
    with pytest.raises(OSError, match="the session has ended"):
        asyncio.run(gate.Gate(stream, find=find)(scope, received, sent))
    assert seen == [0.5, 1.9]


def test_a_form_of_too_many_fields_is_refused(site: Site) -> None:
    client = site.person("viewer")
    del client.headers["X-CSRF-Token"]
    form = {f"f{number}": "x" for number in range(150)}
    assert client.post("/logout", data=form).status_code == 400
    assert not logged_out(site, client)


@pytest.mark.parametrize(
    "host", ["x/healthz?", "x/healthz#", "x/static/style.css?y=", "x\\healthz"]
)
def test_the_name_of_the_host_is_not_a_part_of_the_path(site: Site, host: str) -> None:
    answer = site.stranger().get("/models", headers={"Host": host, "Accept": "*/*"})
    assert answer.status_code == 401
