"""`python -m trainer bootstrap`: a first model from history."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import typer

from runtime.command_line import Json, errors, require_folder, say, write_report
from runtime.files.options import MAX_SHARE, MaxRejected, OnErrorOption, RejectOptions, Rejects
from runtime.kafka.model_registry import open_registry
from runtime.settings import load_settings
from schemas.features import DAY
from schemas.manifest import ANYBODY
from trainer.commands.options import (
    BundleFolder,
    InputFile,
    LabelDelayDays,
    MappingFile,
    ModelName,
    Threads,
)
from trainer.commands.sources import free_name, replayed
from trainer.training.parameters import ROUNDS

ACTOR: Final = "trainer"


def bootstrap(
    input_path: InputFile,
    mapping: MappingFile,
    output: BundleFolder = Path("var/models"),
    model_id: ModelName = None,
    label_delay_days: LabelDelayDays = 7.0,
    rounds: Annotated[int, typer.Option(min=1, help="trees")] = ROUNDS,
    threads: Threads = 1,
    on_error: OnErrorOption = "reject",
    max_rejected: MaxRejected = MAX_SHARE,
    rejects: Rejects = None,
    publish: Annotated[bool, typer.Option(help="register it and make it the champion")] = False,
    json_path: Json = None,
) -> None:
    """Train a first model by replay of history, write its bundle and, if asked, publish it.

    Example: python -m trainer bootstrap --input day.parquet
    --mapping loadtest/mappings/handbook.yaml --output var/models --publish
    """
    require_folder(json=json_path, rejects=rejects)
    from trainer.registry.publication import loaded_registration
    from trainer.registry.signing import signer_of
    from trainer.training import batch_training, bundle_writer

    settings = load_settings()
    signer = signer_of(settings, required=publish)
    began = time.perf_counter()
    now = time.time_ns() // 1_000_000
    name = free_name(model_id or f"bootstrap-{now}", output)
    delay = round(label_delay_days * DAY)
    left_out = RejectOptions(on_error=on_error, max_share=max_rejected, file=rejects)
    data = replayed(input_path, mapping, delay, left_out)
    with errors.status(f"training on {len(data.time):,} transactions"):
        options = batch_training.TrainOptions(gap_ms=delay, rounds=rounds, threads=threads)
        trained, _ = batch_training.train(data, options)
    directory = output / name
    sha256 = bundle_writer.write(directory, name, trained, signer)
    trust = settings.bundle_trust if publish else ANYBODY
    event = loaded_registration(directory, actor=ACTOR, occurred_at=now, trust=trust)
    if publish:
        with open_registry(settings) as registry:
            registry.register(event)
            registry.change(name, "CHAMPION", actor=ACTOR)
    report = {
        "model_id": name,
        "artefact_uri": event["artefact_uri"],
        "sha256": sha256,
        "fingerprint": event["fingerprint"].hex(),
        "metrics": trained.metrics,
        "thresholds": trained.thresholds,
        "seconds": time.perf_counter() - began,
    }
    auc, precision = trained.metrics["auc"], trained.metrics["average_precision"]
    say(f"{name}: AUC {auc:.4f}, average precision {precision:.4f}, in {directory}")
    write_report(report, json_path)
