"""`python -m trainer publish`: put a bundle at a stage."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import ConfigurationError
from schemas.runtime.command_line import say
from schemas.runtime.settings import load_settings


def publish(
    bundle: Annotated[Path, typer.Argument(help="directory of the bundle")],
    stage: Annotated[str, typer.Option(help="CHAMPION, CANARY, SHADOW, RETIRED, ROLLED_BACK")],
    share: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="share of the cards, for a CANARY")
    ] = None,
    actor: Annotated[str, typer.Option(help="who does it")] = "operator",
) -> None:
    """Put a bundle at a stage; running scorers follow between two batches.

    Example: python -m trainer publish var/models/bootstrap-1 --stage CANARY --share 0.05
    """
    from schemas.manifest import MANIFEST_NAME, read_verified, sha256
    from trainer import registry

    if stage not in registry.STAGES:
        raise ConfigurationError(f"--stage {stage!r}: give one of {', '.join(registry.STAGES)}")
    if (stage == "CANARY") != (share is not None):
        raise ConfigurationError("--share goes with --stage CANARY, and a canary needs it")
    path = bundle / MANIFEST_NAME
    if not path.is_file():
        raise ConfigurationError(f"{bundle} is no bundle: it has no {MANIFEST_NAME}")
    digest = sha256(path.read_bytes())
    manifest, files = read_verified(bundle, digest)
    event = registry.model_event(
        manifest.model_id,
        stage,
        bundle,
        digest,
        json.loads(files.get("metrics.json", b"{}")),
        occurred_at=time.time_ns() // 1_000_000,
        actor=actor,
        canary_share=share,
    )
    registry.publish(load_settings(), [event])
    say(f"{manifest.model_id} is {stage}")
