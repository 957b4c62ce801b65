"""Adjustments as bundles: the champion's files and adjustment.json under a name of their own.

So an adjustment is loaded, shadowed, swapped, rolled back and recorded like every other model.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import structlog

from runtime.kafka.model_registry import METRICS_FILE, registration
from schemas import manifest
from schemas.errors import ConfigurationError
from schemas.features import DAY, FINGERPRINT
from schemas.model_stages import ModelState, ModelStates
from schemas.records import ModelEvent, Stage
from scorer.model import adjustment
from scorer.model.adjustment import Adjustment
from scorer.model.bundle import load_model
from scorer.serving import bundle_directory
from trainer.registry.adjusted import adjusted_name, base_of, version_of
from trainer.registry.signing import Signer

log = structlog.get_logger(__name__)
ACTOR: Final = "online"
GONE: Final = ("RETIRED", "ROLLED_BACK")
SERVING: Final = ("SHADOW", "CANARY", "CHAMPION")
HOLD_MS: Final = DAY
"""How long a model that decides is kept before newer weights replace it. The monitor judges drift
and the precision of alerts over a day, and its guard compares a new champion, for a day, with a day
of the one before. None of them can judge models that replace each other more quickly."""


class AdjustmentRegistry(Protocol):
    """What is used of `runtime.kafka.model_registry.ModelRegistry`."""

    def states(self) -> ModelStates:
        """Return where every model stands."""
        ...

    def register(self, event: ModelEvent) -> ModelEvent:
        """Add a model."""
        ...

    def change(
        self,
        model_id: str,
        stage: Stage,
        *,
        actor: str,
        comment: str | None = None,
        share: float | None = None,
    ) -> ModelEvent:
        """Put a model at a stage."""
        ...


def derive(
    champion: ModelEvent,
    folder: Path,
    change: Adjustment,
    metrics: Mapping[str, float],
    signer: Signer | None = None,
) -> Path:
    """Write the adjusted bundle of a champion's and return its directory, which appears whole.

    The champion's files are linked, so a bundle costs a few kilobytes. What the champion's bundle
    has of an adjustment of its own is replaced.

    Raises:
        ConfigurationError: the champion's bundle is damaged, the directory exists already or
            cannot be written, or the scorer would refuse the result.
    """
    source = bundle_directory(champion["artefact_uri"])
    _, files = manifest.read_verified(source, champion["sha256"])
    model_id = adjusted_name(change.base, change.version)
    target = folder / model_id
    if target.exists():
        raise ConfigurationError(f"{target} exists: remove it, or give another --output")
    partial = folder / f".{model_id}.{os.getpid()}.partial"
    own = {
        adjustment.FILE: change.document(),
        METRICS_FILE: json.dumps(dict(metrics)),
    }
    try:
        partial.mkdir(parents=True)
        for name, content in files.items():
            if name not in own:
                _link(source / name, partial / name, content)
        for name, text in own.items():
            with (partial / name).open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        if signer is None:
            sha256 = manifest.write_manifest(partial, model_id, FINGERPRINT)
        else:
            sha256 = signer.sign(partial, model_id, FINGERPRINT)
        load_model(partial, sha256)
        partial.rename(target)
    except OSError as error:
        raise ConfigurationError(f"cannot write bundle {target}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _link(source: Path, target: Path, content: bytes) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without links
        target.write_bytes(content)


@dataclass(slots=True)
class Publisher:
    """Keeps one adjusted model of the champion at the stage that its quality deserves.

    Args:
        folder: of bundles.
        stage: its stage while it is better; `share` of the cards if that is CANARY.
        signer: signs the bundles; None leaves them unsigned.
    """

    registry: AdjustmentRegistry
    folder: Path
    stage: Literal["SHADOW", "CANARY", "CHAMPION"] = "CHAMPION"
    share: float = 0.1
    signer: Signer | None = None
    current: str = ""
    """Model id of the last published adjustment, "" before the first."""

    def taken_out(self, states: ModelStates) -> bool:
        """Return, once, whether somebody else retired or rolled back the last adjustment."""
        state = states.get(self.current)
        if state is None or state.stage not in GONE:
            return False
        self.current = ""
        return state.event["actor"] != ACTOR

    def next_version(self, states: ModelStates, base: str) -> int:
        """Return a version that no model of the registry and no directory has."""
        names = [each.model_id for each in states]
        if self.folder.is_dir():
            names += [path.name for path in self.folder.iterdir()]
        return 1 + max(
            (version_of(name) or 0 for name in names if base_of(name) == base), default=0
        )

    def live(self, states: ModelStates, base: str) -> ModelState | None:
        """Return the newest adjusted model of `base` that serves or watches."""
        own = [state for state in _derived(states, base) if state.stage in SERVING]
        return own[-1] if own else None

    def too_soon(self, states: ModelStates, base: str, better: bool, now_ms: int) -> bool:
        """Return whether `publish` would replace a model that has decided for less than HOLD_MS."""
        replaced = ("CANARY", "CHAMPION") if self._serves(better) else ("CANARY",)
        return any(
            state.stage in replaced and now_ms - state.event["occurred_at"] < HOLD_MS
            for state in _derived(states, base)
        )

    def publish(
        self, champion: ModelEvent, change: Adjustment, metrics: Mapping[str, float], better: bool
    ) -> str:
        """Register a new adjustment as a shadow, raise it if it is better, retire those before.

        A champion that it replaces stays as the former one: the monitor's guard holds the new one
        against it, and leads back to it.

        Raises:
            BrokerUnavailable: Kafka does not answer.
            ConfigurationError: see `derive`; ImpossibleTransition: somebody moved it meanwhile.
        """
        states = self.registry.states()
        before = list(_derived(states, change.base))
        directory = derive(champion, self.folder, change, metrics, self.signer)
        model_id = directory.name
        self.registry.register(registration(directory, actor=ACTOR))
        self._move(model_id, "SHADOW", "new weights")
        self.current = model_id
        canaries = [each for each in before if each.stage == "CANARY"]
        self._retire(canaries, model_id)
        if better and self.stage != "SHADOW":
            self._move(model_id, self.stage, "better over the window")
        done = ("SHADOW", "FORMER_CHAMPION") if self._serves(better) else ("SHADOW",)
        self._retire([each for each in before if each.stage in done], model_id)
        log.info("published", model_id=model_id, better=better)
        return model_id

    def place(self, states: ModelStates, live: ModelState, better: bool) -> None:
        """Raise or lower the published model; one that others moved stays where they put it.

        When the champion is lowered, its predecessors are retired first, so that the base serves.

        Raises:
            BrokerUnavailable: Kafka does not answer.
            ImpossibleTransition: somebody moved it meanwhile.
        """
        if live.event["actor"] != ACTOR:
            return
        if better and live.stage == "SHADOW" and self.stage != "SHADOW":
            self._move(live.model_id, self.stage, "better over the window")
        elif not better and live.stage == "CANARY":
            self._move(live.model_id, "SHADOW", "no longer better")
        elif not better and live.stage == "CHAMPION":
            for state in _derived(states, base_of(live.model_id)):
                if state.stage == "FORMER_CHAMPION" and state.event["actor"] == ACTOR:
                    self._move(state.model_id, "RETIRED", "no longer better")
            self._move(live.model_id, "ROLLED_BACK", "no longer better")

    def leave(self, states: ModelStates, base: str) -> None:
        """Retire shadows and canaries of another champion than `base`; raises as `place`."""
        for state in states:
            other = base_of(state.model_id) not in (state.model_id, base)
            if other and state.stage in ("SHADOW", "CANARY") and state.event["actor"] == ACTOR:
                self._move(state.model_id, "RETIRED", f"the champion is {base}")

    def _serves(self, better: bool) -> bool:
        return better and self.stage == "CHAMPION"

    def _retire(self, states: list[ModelState], successor: str) -> None:
        for state in states:
            self._move(state.model_id, "RETIRED", f"{successor} follows")

    def _move(self, model_id: str, stage: Stage, comment: str) -> None:
        share = self.share if stage == "CANARY" else None
        self.registry.change(model_id, stage, actor=ACTOR, comment=comment, share=share)


def _derived(states: ModelStates, base: str) -> Iterator[ModelState]:
    return (state for state in states if base_of(state.model_id) == base != state.model_id)
