"""`python -m trainer models` and the steps by which people change the stages of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from runtime.command_line import Json, errors, say, write_report
from runtime.kafka.model_registry import open_registry
from runtime.settings import load_settings

if TYPE_CHECKING:
    from rich.table import Table

    from schemas.model_stages import ModelStates
    from schemas.records import Stage

ModelId = Annotated[str, typer.Argument(help="model, as `trainer models` shows it")]
Actor = Annotated[str, typer.Option(help="name in the audit")]
Comment = Annotated[str | None, typer.Option(help="why")]
Share = Annotated[float, typer.Option(help="share of the cards, above 0 and up to 1")]
OPERATOR: Final = "operator"
SHOWN_METRICS: Final = ("auc", "average_precision", "precision", "recall")


def models(
    json_path: Json = None,
) -> None:
    """Show every model: its stage, metrics, since when and by whom.

    Example: python -m trainer models --json -
    """
    with open_registry(load_settings()) as registry:
        states = registry.states()
        ignored = [str(error) for error in registry.ignored]
    for text in ignored:
        say(text, "red")
    errors.print(_table(states))
    write_report([state.document() for state in states], json_path)


def register(
    bundle: Annotated[Path, typer.Argument(help="directory of the bundle")],
    actor: Actor = OPERATOR,
    comment: Comment = None,
) -> None:
    """Add a bundle to the registry; also one that was retired or rolled back, to use it again.

    It is loaded first as a scorer loads it, and refused if that fails.

    Example: python -m trainer register var/models/bootstrap-1
    """
    from trainer.registry.publication import loaded_registration

    settings = load_settings()
    event = loaded_registration(bundle, actor=actor, comment=comment, trust=settings.bundle_trust)
    with open_registry(settings) as registry:
        registry.register(event)
    say(f"{event['model_id']} is REGISTERED")


def shadow(model_id: ModelId, actor: Actor = OPERATOR, comment: Comment = None) -> None:
    """Let a model score beside the champion; its scores ride in the decisions.

    Example: python -m trainer shadow bootstrap-2 --actor jane
    """
    _change(model_id, "SHADOW", actor, comment)


def canary(
    model_id: ModelId, share: Share, actor: Actor = OPERATOR, comment: Comment = None
) -> None:
    """Let a model decide for a share of the cards, or change that share.

    Example: python -m trainer canary bootstrap-2 --share 0.05
    """
    _change(model_id, "CANARY", actor, comment, share)


def promote(model_id: ModelId, actor: Actor = OPERATOR, comment: Comment = None) -> None:
    """Make a model the champion; the one before serves again when it is retired or rolled back.

    Example: python -m trainer promote bootstrap-2 --actor jane --comment "better on new patterns"
    """
    _change(model_id, "CHAMPION", actor, comment)


def rollback(model_id: ModelId, actor: Actor = OPERATOR, comment: Comment = None) -> None:
    """Take a bad model out; after a champion the one before it serves again at once.

    Example: python -m trainer rollback bootstrap-2 --comment "blocks too much"
    """
    _change(model_id, "ROLLED_BACK", actor, comment)


def retire(model_id: ModelId, actor: Actor = OPERATOR, comment: Comment = None) -> None:
    """Take a model out for good; only registering its bundle again brings it back.

    Example: python -m trainer retire bootstrap-1
    """
    _change(model_id, "RETIRED", actor, comment)


def _change(
    model_id: str, stage: Stage, actor: str, comment: str | None, share: float | None = None
) -> None:
    settings = load_settings()
    with open_registry(settings) as registry:
        if stage in ("SHADOW", "CANARY", "CHAMPION"):
            from trainer.registry.publication import require_loadable

            require_loadable(registry.states(), model_id, settings.bundle_trust)
        registry.change(model_id, stage, actor=actor, comment=comment, share=share)
        champion = next(iter(registry.states().champions()), None)
    say(f"{model_id} is {stage}" + ("" if share is None else f" for {share:g} of the cards"))
    if champion is None:
        say("there is no champion: the policy's rules and its fallback decide alone", "yellow")
    elif stage in ("RETIRED", "ROLLED_BACK"):
        say(f"the champion is {champion['model_id']}")


def _table(states: ModelStates) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("model", "stage", "share", "metrics", "since (UTC)", "by", "comment")
    for state in states:
        row = state.document()
        shown = {name: row["metrics"][name] for name in SHOWN_METRICS if name in row["metrics"]}
        table.add_row(
            escape(row["model_id"]),
            row["stage"],
            "" if row["share"] is None else f"{row['share']:g}",
            ", ".join(f"{name} {value:.3f}" for name, value in shown.items()),
            row["since"][:19].replace("T", " "),
            escape(row["actor"]),
            escape(row["comment"] or ""),
        )
    return table
