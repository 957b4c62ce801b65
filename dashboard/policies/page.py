"""The page /policies/VERSION: the document behind the policy version that a decision names."""

from __future__ import annotations

import json
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dashboard.accounts.access import Viewer
from dashboard.parts import InjectedParts
from dashboard.web.pages import page
from dashboard.web.redaction import FULL_ROLE, Redaction
from database.decisions.policies import of_version
from schemas.errors import ConfigurationError
from scorer.policy.document import DEFAULT_POLICY, compile_policy

router: Final = APIRouter()
UNREADABLE: Final = (
    f"This document is not a valid policy, so only the role {FULL_ROLE} and those above see it."
)


@router.get("/policies/{version:path}")
def show(request: Request, version: str, person: Viewer, parts: InjectedParts) -> HTMLResponse:
    """Return the documents published as this version, newest first.

    The values of lists, and those that conditions compare personal fields with, are redacted.
    """
    redaction = Redaction.of(person)
    with parts.database.read() as connection:
        found = of_version(connection, version)
    built_in = DEFAULT_POLICY.version == version
    return page(
        request,
        "policy.html",
        status=200 if found or built_in else 404,
        version=version,
        published=[(each, *_shown(each.document, redaction)) for each in found],
        built_in=DEFAULT_POLICY.document.model_dump_json(indent=1) if built_in else "",
        redacted=not redaction.in_full,
    )


def _shown(document: str, redaction: Redaction) -> tuple[str, str]:
    """Return the document with line breaks, and why scorers refuse it, "" if they accept it."""
    try:
        compile_policy(document)
    except ConfigurationError as error:
        if not redaction.in_full:
            return UNREADABLE, "it is not a valid policy."
        return _indented(document), str(error)
    shown = redaction.policy(json.loads(document))
    return json.dumps(shown, indent=1, ensure_ascii=False), ""


def _indented(document: str) -> str:
    """Return JSON with line breaks, and any other text unchanged."""
    try:
        return json.dumps(json.loads(document), indent=1, ensure_ascii=False)
    except ValueError:
        return document
