"""The page /runbook: docs/runbook.md, to which alerts link."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse
from markdown_it import MarkdownIt
from markupsafe import Markup

from dashboard.accounts.access import Viewer
from dashboard.web.pages import page

router: Final = APIRouter()
RUNBOOK: Final = Path(__file__).parents[2] / "docs" / "runbook.md"


@router.get("/runbook")
def runbook(request: Request, person: Viewer) -> HTMLResponse:
    """Return the runbook."""
    try:
        text = RUNBOOK.read_text()
    except OSError as error:
        raise HTTPException(404, "docs/runbook.md is not installed here.") from error
    return page(request, "runbook.html", text=as_html(text))


def as_html(text: str) -> Markup:
    """Return Markdown as HTML, with anchors for headings; HTML in it is escaped."""
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = renderer.parse(text)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor(inline.content))
    return Markup(renderer.renderer.render(tokens, renderer.options, {}))


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it.

    >>> anchor("`low_precision`: too many false alarms")
    'low_precision-too-many-false-alarms'
    """
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
