"""Renders pages from templates, which all get `person`, `csrf`, `navigation`, `path` and `root`.

`root` is the sub-path under which a proxy serves the dashboard, "" for none; every address in a
template begins with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dashboard.accounts.access import person_of, session_of
from database.accounts.roles import Role
from runtime.web.root_path import path_within

FOLDER: Final = Path(__file__).parents[1]
TEMPLATES: Final = FOLDER / "templates"
STATIC: Final = FOLDER / "static"


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """One entry of the header's navigation, shown to `role` and above."""

    path: str
    name: str
    role: Role


NAVIGATION: Final = (
    NavigationEntry("/", "Live", "viewer"),
    NavigationEntry("/queue", "Review queue", "analyst"),
    NavigationEntry("/models", "Models", "viewer"),
    NavigationEntry("/dead-letters", "Dead letters", "admin"),
    NavigationEntry("/audit", "Audit", "admin"),
    NavigationEntry("/people", "People", "admin"),
)


def moment(ms: int) -> str:
    """Return a time in ms as text in UTC."""
    return f"{datetime.fromtimestamp(ms / 1e3, UTC):%Y-%m-%d %H:%M:%S}"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["moment"] = moment
    return made


_TEMPLATES: Final = _environment()


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a template rendered with `values`, all of which are escaped."""
    person, session = person_of(request), session_of(request)
    there: frozenset[str] = request.app.state.paths
    shown = [
        place
        for place in NAVIGATION
        if place.path in there and person is not None and person.may(place.role)
    ]
    text = _TEMPLATES.get_template(template).render(
        person=person,
        csrf=session.csrf if session is not None else "",
        navigation=[] if session is None or session.must_change else shown,
        root=request.scope.get("root_path", ""),
        path=path_within(request.scope),
        **values,
    )
    return HTMLResponse(text, status)
