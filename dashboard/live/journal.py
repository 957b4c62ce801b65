"""The recent changes on the topics `alerts`, `models` and `policy`, newest first. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.errors import BadMessage, ConfigurationError
from schemas.model_stages import STEPS, ModelStates
from schemas.topics import ALERTS, MODELS, POLICY
from scorer.policy.event import read_policy

MAX_CHANGES: Final = 60
SHOWN_MODELS: Final = 8
GONE: Final = ("RETIRED", "ROLLED_BACK")
LEVELS: Final = {"INFO": "info", "WARNING": "warn", "CRITICAL": "bad"}
STAGE_WORDS: Final = {
    "REGISTERED": "registered",
    "SHADOW": "scores as a shadow",
    "CANARY": "decides as a canary",
    "CHAMPION": "is the champion",
    "RETIRED": "was retired",
    "ROLLED_BACK": "was rolled back",
}
ORDER: Final = ("CHAMPION", "CANARY", "SHADOW", "REGISTERED", "FORMER_CHAMPION", *GONE)


@dataclass(slots=True)
class Journal:
    """The last changes, and the state that they led to."""

    states: ModelStates = field(default_factory=ModelStates)
    policy: str = ""
    """Version of the policy in force, "" for the default."""
    thresholds: tuple[float, float] | None = None
    """Its REVIEW and BLOCK thresholds; None if those of the model's bundle hold."""
    raised: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Unresolved alerts of the monitor, by rule."""
    _changes: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_CHANGES))

    def take(self, topic: str, messages: Sequence[Message]) -> None:
        """Take messages of `alerts`, `models` or `policy` (name without prefix); skip bad ones."""
        read = {ALERTS.name: self._alert, MODELS.name: self._model, POLICY.name: self._policy}
        for message in messages:
            try:
                read[topic](message)
            except BadMessage:  # the scorer raises an alert, which is shown
                continue

    def changes(self) -> list[dict[str, Any]]:
        """Return the last changes, newest first."""
        return sorted(self._changes, key=lambda change: -change["at"])

    def models(self) -> list[dict[str, Any]]:
        """Return the models with their stages and possible steps, serving ones first."""
        found = sorted(self.states, key=lambda state: -state.event["occurred_at"])
        found.sort(key=lambda state: ORDER.index(state.stage))
        return [
            {
                "model_id": state.model_id,
                "stage": state.stage,
                "share": state.event["canary_share"],
                "since": state.event["occurred_at"],
                "actor": state.event["actor"],
                "comment": state.event["comment"],
                "auc": state.event["metrics"].get("auc"),
                "steps": list(STEPS[state.stage]),
            }
            for state in found[:SHOWN_MODELS]
        ]

    def _alert(self, message: Message) -> None:
        record = _read(message, "Alert")
        state = record["detail"].get("state")
        rule = record["rule"]
        resolved = state == "resolved"
        change = {
            # A monitor on event time dates alerts of replayed history in the past.
            "at": max(record["occurred_at"], message.timestamp),
            "kind": "alert",
            "level": "good" if resolved else LEVELS.get(record["severity"], "warn"),
            "title": rule,
            "text": record["summary"],
        }
        if resolved:
            self.raised.pop(rule, None)
        elif state is not None:
            self.raised[rule] = change
        self._changes.append(change)

    def _model(self, message: Message) -> None:
        event = self.states.read(message.key, message.value)
        if event is None:
            return
        share = event["canary_share"]
        words = STAGE_WORDS[event["stage"]] + (f" for {share:.0%} of the cards" if share else "")
        self._changes.append(
            {
                "at": event["occurred_at"],
                "kind": "model",
                "level": "warn" if event["stage"] == "ROLLED_BACK" else "info",
                "title": event["model_id"],
                "text": f"{words} ({event['actor']})"
                + (f": {event['comment']}" if event["comment"] else ""),
            }
        )

    def _policy(self, message: Message) -> None:
        try:
            policy, event = read_policy(message)
        except ConfigurationError:  # refused, so the last policy stays in force
            return
        limits = policy.document.thresholds
        self.thresholds = None if limits is None else (limits.review, limits.block)
        self.policy = "" if event is None else event["version"]
        if event is not None:
            self._changes.append(
                {
                    "at": event["occurred_at"],
                    "kind": "policy",
                    "level": "info",
                    "title": f"policy {event['version']}",
                    "text": f"put in force ({event['actor']})",
                }
            )


def _read(message: Message, kind: str) -> dict[str, Any]:
    name, record = avro.decode(message.value or b"")
    if name != kind:
        raise BadMessage(f"expected a {kind}, got a {name}")
    return record
