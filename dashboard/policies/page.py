"""The page /policies/VERSION: the document behind the policy version that a decision names."""

from __future__ import annotations

import json
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dashboard.accounts.access import Viewer
from dashboard.parts import InjectedParts
from dashboard.web.pages import page
from database.decisions.policies import of_version
from schemas.errors import ConfigurationError
from scorer.policy.document import DEFAULT_POLICY, compile_policy

router: Final = APIRouter()


@router.get("/policies/{version:path}")
def show(request: Request, version: str, _person: Viewer, parts: InjectedParts) -> HTMLResponse:
    """Return the documents published as this version, newest first."""
    with parts.database.read() as connection:
        found = of_version(connection, version)
    built_in = DEFAULT_POLICY.version == version
    return page(
        request,
        "policy.html",
        status=200 if found or built_in else 404,
        version=version,
        published=[(each, _indented(each.document), _refusal(each.document)) for each in found],
        built_in=DEFAULT_POLICY.document.model_dump_json(indent=1) if built_in else "",
    )


def _indented(document: str) -> str:
    """Return JSON with line breaks, and any other text unchanged."""
    try:
        return json.dumps(json.loads(document), indent=1, ensure_ascii=False)
    except ValueError:
        return document


def _refusal(document: str) -> str:
    """Return why scorers refuse the document, "" if they accept it."""
    try:
        compile_policy(document)
    except ConfigurationError as error:
        return str(error)
    return ""
