"""The models and the policy in force, kept up to date from the `models` and `policy` topics.

A new bundle is loaded, verified and warmed up on the follower's thread, and `serving` is replaced
as a whole. As the scorer reads `serving` once per batch, a change takes effect between two batches.
A bundle or policy that cannot be used is refused with an alert, and its predecessor stays in force.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse

import structlog

from runtime.clock import Clock
from runtime.kafka.follower import Feed, Follower
from runtime.kafka.protocols import Message, Reader
from runtime.metrics import Metrics
from schemas.errors import BadMessage, ConfigurationError
from schemas.manifest import ANYBODY, BundleTrust
from schemas.model_stages import ModelStates
from schemas.records import Alert, ModelEvent
from scorer.decision.decide import Canary, Serving
from scorer.line_up import LineUp, line_up
from scorer.model.bundle import Model, load_model
from scorer.policy.document import Policy
from scorer.policy.event import read_policy
from scorer.policy.unmatchable import SHOWN, unmatchable

log = structlog.get_logger(__name__)
SERVICE = "scorer"
POLL_S = 0.1


def bundle_directory(uri: str) -> Path:
    """Return the directory that a file: URI or a plain path names.

    Raises:
        ConfigurationError: the URI has another scheme, names another host, or is not a URI.
    """
    try:
        parts = urlparse(uri)
    except ValueError as error:
        raise ConfigurationError(f"artefact {uri!r} is not a URI: {error}") from error
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        raise ConfigurationError(f"artefact {uri}: only file: URIs and paths are supported")
    return Path(unquote(parts.path))


class ServingFollower:
    """Keeps `serving` up to date; it may be read from any thread."""

    def __init__(
        self,
        models: Reader,
        policy: Reader,
        *,
        alert: Callable[[Alert], None],
        metrics: Metrics,
        clock: Clock,
        trust: BundleTrust = ANYBODY,
    ) -> None:
        self.serving = Serving()
        self._models, self._policy = models, policy
        self._alert, self._metrics, self._clock = alert, metrics, clock
        self._trust = trust
        self._numbers: dict[str, int] = {}
        self._states = ModelStates()
        self._loaded: dict[str, tuple[str, Model]] = {}
        self._refused: dict[str, str] = {}
        self._follower = Follower("models and policy", self._open)

    def start(self) -> None:
        """Read both topics to their end and load the models, then follow on a thread. Blocks.

        Raises:
            BrokerUnavailable: Kafka does not answer.
        """
        self._follower.start()

    def stop(self) -> None:
        """Stop following."""
        self._follower.stop()

    def dead(self) -> str:
        """Return why the process should be restarted, or "" while the thread is alive."""
        return self._follower.dead()

    def _open(self) -> list[Feed]:
        self._apply_policies(self._policy.read_to_end())
        self._apply_models(self._models.read_to_end())
        return [
            Feed(self._policy, self._apply_policies, POLL_S),
            Feed(self._models, self._apply_models, POLL_S),
        ]

    def _apply_policies(self, messages: Sequence[Message]) -> None:
        newest: Policy | None = None
        for message in messages:
            try:
                newest, _ = read_policy(message)
            except (BadMessage, ConfigurationError) as error:
                self._refuse("policy", (message.key or b"").decode(errors="replace"), error)
        if newest is not None:
            self._replace(policy=newest)
            log.info("policy", version=newest.version)
            wrong = unmatchable(newest.document)
            if wrong:
                log.warning("the policy has values that can never match", values=wrong[:SHOWN])

    def _apply_models(self, messages: Sequence[Message]) -> None:
        for message in messages:
            try:
                self._apply_event(message)
            except BadMessage as error:
                self._refuse("event", (message.key or b"").decode(errors="replace"), error)
        if messages:
            self._change_line_up()

    def _apply_event(self, message: Message) -> None:
        event = self._states.read(message.key, message.value)
        if event is not None:  # the bundle may have been repaired before publishing it again
            self._refused.pop(event["model_id"], None)

    def _change_line_up(self) -> None:
        """Load missing bundles; after one is refused, the line-up is formed again without it."""
        while True:
            now = line_up(self._states, self._refused)
            if all(self._load(event) for event in now.events):
                break
        self._replace(now=now)

    def _load(self, event: ModelEvent) -> bool:
        model_id, sha256 = event["model_id"], event["sha256"]
        if self._loaded.get(model_id, ("", None))[0] == sha256:
            return True
        try:
            model = load_model(bundle_directory(event["artefact_uri"]), sha256, self._trust)
            if model.model_id != model_id:
                raise ConfigurationError(f"the bundle of {model_id} holds {model.model_id}")
            self._check_number(model)
        except ConfigurationError as error:
            self._refused[model_id] = sha256
            self._refuse("bundle", model_id, error)
            return False
        self._loaded[model_id] = (sha256, model)
        return True

    def _check_number(self, model: Model) -> None:
        """Refuse the older of two signed bundles of one name, once the newer one was loaded."""
        if self._trust.public_key is None or model.number is None:
            return
        newest = self._numbers.get(model.model_id, model.number)
        if model.number < newest:
            raise ConfigurationError(
                f"the bundle of {model.model_id} was signed with the number {model.number}, but "
                f"one with {newest} was served before: sign it again if it is meant"
            )
        self._numbers[model.model_id] = model.number

    def _replace(self, *, policy: Policy | None = None, now: LineUp | None = None) -> None:
        before = self.serving
        if now is None:
            champion, canaries, shadows = before.champion, before.canaries, before.shadows
        else:
            held = {model_id: model for model_id, (_, model) in self._loaded.items()}
            champion = None if now.champion is None else held[now.champion["model_id"]]
            canaries = tuple(
                Canary(held[each["model_id"]], each["canary_share"] or 0.0) for each in now.canaries
            )
            shadows = tuple(held[each["model_id"]] for each in now.shadows)
            used = {each["model_id"] for each in now.events}
            self._loaded = {name: kept for name, kept in self._loaded.items() if name in used}
            log.info(
                "models",
                champion=champion.model_id if champion else None,
                canaries=[each.model.model_id for each in canaries],
                shadows=[each.model_id for each in shadows],
            )
        self.serving = Serving(policy or before.policy, champion, canaries, shadows)
        self._show(self.serving)

    def _show(self, serving: Serving) -> None:
        self._metrics.forget("model_info")
        self._metrics.forget("policy_info")
        self._metrics.set("policy_info", 1, version=serving.policy.version)
        if serving.champion is not None:
            self._metrics.set("model_info", 1, model_id=serving.champion.model_id, role="CHAMPION")
        for canary in serving.canaries:
            self._metrics.set("model_info", 1, model_id=canary.model.model_id, role="CANARY")
        for shadow in serving.shadows:
            self._metrics.set("model_info", 1, model_id=shadow.model_id, role="SHADOW")

    def _refuse(self, kind: str, name: str, error: Exception) -> None:
        log.error("refused", kind=kind, name=name, reason=str(error))
        self._metrics.count("refused", kind=kind)
        self._alert(
            {
                "rule": f"{kind}_refused",
                "severity": "CRITICAL",
                "summary": f"{kind} {name} was refused; its predecessor stays in force",
                "detail": {"name": name, "reason": str(error)[:2000]},
                "service": SERVICE,
                "occurred_at": self._clock.now_ms(),
            }
        )
