"""Every route of the dashboard is closed to strangers and names its role; walks all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute

from dashboard.app import ROUTERS
from dashboard.web.gate import OPEN
from dashboard.web.pages import STATIC
from database.accounts.roles import ROLES, Role
from tests.support.dashboard.site import Site


def routes() -> Iterator[tuple[str, str, APIRoute]]:
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for method in sorted(route.methods or ()):
                yield method, route.path, route


def role_of(route: APIRoute) -> Role | None:
    found: list[Role] = [
        each.call.required  # type: ignore[union-attr]
        for each in route.dependant.dependencies
        if hasattr(each.call, "required")
    ]
    return max(found, key=ROLES.index) if found else None


def filled(path: str) -> str:
    return re.sub(r"{[^}]*}", "1", path)


def test_every_closed_route_names_a_role() -> None:
    unnamed = {path for _, path, route in routes() if role_of(route) is None}
    assert unnamed == {path for path in OPEN if not path.startswith("/static/")}


def test_strangers_and_forged_sessions_are_let_in_nowhere(site: Site) -> None:
    stranger, forger = site.stranger(), site.stranger(cookies={"session": "x" * 43})
    closed = [(method, path) for method, path, _ in routes() if path not in OPEN]
    assert len(closed) > 10
    static = [f"/static/{file.relative_to(STATIC)}" for file in STATIC.rglob("*.*")]
    closed += [("GET", path) for path in static if path not in OPEN] + [("GET", "/no-such-page")]
    for method, path in closed:
        for client in (stranger, forger):
            page = client.request(method, filled(path))
            assert page.status_code == (303 if method == "GET" else 401), (method, path)
            if method == "GET":
                assert page.headers["location"].startswith("/login?next=")
            script = client.request(method, filled(path), headers={"Accept": "*/*"})
            assert script.status_code == 401, (method, path)


def test_every_lower_role_is_refused_by_every_route(site: Site) -> None:
    clients = {role: site.person(role) for role in ROLES}
    seen = 0
    for method, path, route in routes():
        least = role_of(route)
        if least is None:
            continue
        for role in ROLES[: ROLES.index(least)]:
            answer = clients[role].request(method, filled(path))
            assert answer.status_code == 403, (method, path, role)
            assert f"needs the role {least}" in answer.text
            seen += 1
    assert seen == sum(ROLES.index(role_of(route) or "viewer") for _, _, route in routes())


@pytest.mark.parametrize(
    ("role", "opened"),
    [
        ("viewer", {"/models"}),
        ("analyst", {"/models", "/queue"}),
        ("model owner", {"/models", "/queue"}),
        ("admin", {"/models", "/queue", "/people"}),
    ],
)
def test_a_role_may_do_what_the_lower_ones_may(site: Site, role: str, opened: set[str]) -> None:
    client = site.person(role)
    answers = {path: client.get(path).status_code for path in ("/models", "/queue", "/people")}
    assert answers == {path: 200 if path in opened else 403 for path in answers}
