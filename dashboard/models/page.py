"""The page /models: every model with its stage, which model owners can change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import structlog
from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from dashboard.accounts.access import ModelOwner, Viewer
from dashboard.parts import DashboardParts, InjectedParts
from dashboard.web.pages import page
from database.accounts import audit
from database.accounts.audit import Action
from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.model_stages import STEPS, ModelState, ModelStates
from schemas.records import Stage

log = structlog.get_logger(__name__)
router: Final = APIRouter()
StepName = Literal["promote", "canary", "shadow", "rollback", "retire"]
ORDER: Final = (
    "CHAMPION", "CANARY", "SHADOW", "REGISTERED", "FORMER_CHAMPION", "ROLLED_BACK", "RETIRED",
)  # fmt: skip
TONES: Final = {"CHAMPION": "good", "CANARY": "warn", "SHADOW": "info", "ROLLED_BACK": "bad"}
SHOWN_METRICS: Final = {
    "auc": "AUC",
    "average_precision": "avg. precision",
    "precision": "precision",
    "recall": "recall",
}
"""Holdout metrics that the page shows at first; the others are behind a click."""


@dataclass(frozen=True, slots=True)
class OfferedStep:
    """A step that the page offers; `question` asks for confirmation, with `{model}` in it."""

    name: StepName
    label: str
    stage: Stage
    action: Action
    question: str
    danger: bool = False


OFFERED: Final = {
    step.name: step
    for step in (
        OfferedStep("promote", "Promote", "CHAMPION", "model promoted",
             "Make {model} the champion? It decides at once for all cards but those of canaries."),
        OfferedStep("canary", "Canary", "CANARY", "model canary",
             "Let {model} decide for a share of the cards?"),
        OfferedStep("shadow", "Shadow", "SHADOW", "model shadow",
             "Let {model} score alongside the champion? Its scores decide nothing."),
        OfferedStep("rollback", "Roll back", "ROLLED_BACK", "model rolled back",
             "Take {model} out because it is bad? A champion is replaced by the one before it.",
             danger=True),
        OfferedStep("retire", "Retire", "RETIRED", "model retired",
             "Take {model} out for good? Only registering its bundle again brings it back.",
             danger=True),
    )
}  # fmt: skip


@router.get("/models")
def show(request: Request, _person: Viewer, parts: InjectedParts, changed: str = "") -> Response:
    """Show the models, or a notice if Kafka does not answer."""
    return _page(request, parts, changed=changed)


@router.post("/models/{step}")
def change(
    request: Request,
    step: StepName,
    person: ModelOwner,
    parts: InjectedParts,
    model_id: Annotated[str, Form()],
    share: Annotated[float | None, Form(description="share of the cards, in per cent")] = None,
    comment: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Take a step with a model; a step that is not possible is refused with the reason.

    A change on the topic cannot be undone, so its audit entry is written first: without the
    database nothing changes. Should the final commit fail, the event itself names the person.
    """
    wanted = OFFERED[step]
    now = parts.clock.now_ms()
    asked: dict[str, Any] = {
        "actor": person.username,
        "comment": comment.strip() or None,
        "share": share / 100 if share is not None and step == "canary" else None,
    }
    try:
        with parts.registry() as registry:
            states = registry.states()  # fails early if Kafka does not answer
            before = _place(states, model_id)
            states.apply(states.changed(model_id, wanted.stage, **asked, occurred_at=now))
            _require_loaded(parts, before, wanted.stage, model_id)
            entry = {"before": before, "after": _place(states, model_id)}
            with parts.database.begin() as connection:
                audit.record(
                    connection,
                    who=person.username,
                    action=wanted.action,
                    subject=model_id,
                    **entry,
                    now_ms=now,
                )
                registry.change(model_id, wanted.stage, **asked)
    except ConfigurationError as error:
        if "text/html" not in request.headers.get("accept", ""):
            raise
        return _page(request, parts, status=409, problem=str(error))
    log.info("model changed", who=person.username, action=wanted.action, model=model_id, **entry)
    return RedirectResponse(f"/models?changed={step}", 303)


def _require_loaded(
    parts: DashboardParts, before: Mapping[str, Any] | None, stage: Stage, model_id: str
) -> None:
    """Refuse a step up of a model on trial that no scorer has loaded, as far as scorers answer.

    Raises:
        ConfigurationError: they have not.
    """
    loaded = parts.collector.loaded()
    if before is None or loaded is None or stage not in ("CANARY", "CHAMPION"):
        return
    if before["stage"] in ("SHADOW", "CANARY") and model_id not in loaded:
        raise ConfigurationError(
            f"no scorer has loaded {model_id}: see the alert bundle_refused for the reason, put "
            "the bundle where scorers see it, and register it again"
        )


def _place(states: ModelStates, model_id: str) -> Mapping[str, Any] | None:
    """Return the stage of a model and the champion, for the audit."""
    state = states.get(model_id)
    if state is None:
        return None
    champion = next(iter(states.champions()), None)
    return {
        "stage": state.stage,
        "share": state.event["canary_share"],
        "comment": state.event["comment"],
        "champion": None if champion is None else champion["model_id"],
    }


def _page(
    request: Request,
    parts: DashboardParts,
    *,
    status: int = 200,
    changed: str = "",
    problem: str = "",
) -> Response:
    rows: list[dict[str, Any]] = []
    ignored: list[str] = []
    away = ""
    try:
        with parts.registry() as registry:
            states = sorted(registry.states(), key=_urgency)
            ignored = [str(error) for error in registry.ignored]
        rows = [_row(state) for state in states]
    except BrokerUnavailable as error:
        away, status = str(error), 503
    return page(
        request,
        "models.html",
        status=status,
        rows=rows,
        ignored=ignored,
        away=away,
        problem=problem,
        changed=OFFERED[changed].action if changed in OFFERED else "",
        champion=next(
            (row["event"]["model_id"] for row in rows if row["stage"] == "CHAMPION"), None
        ),
    )


def _urgency(state: ModelState) -> tuple[int, int]:
    return ORDER.index(state.stage), -state.event["occurred_at"]


def _row(state: ModelState) -> dict[str, Any]:
    event = state.event
    metrics = event["metrics"]
    return {
        "event": event,
        "stage": state.stage,
        "tone": TONES.get(state.stage, ""),
        "metrics": [
            (text, metrics[name]) for name, text in SHOWN_METRICS.items() if name in metrics
        ],
        "more": sorted(
            (name, value) for name, value in metrics.items() if name not in SHOWN_METRICS
        ),
        "steps": [step for step in OFFERED.values() if step.stage in STEPS[state.stage]],
    }
