"""The topic table: names, keys and retention. Services create missing topics from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

DAY_MS: Final = 86_400_000
MAX_MESSAGE_BYTES: Final = 4_000_000
"""The largest message that producers send and topics take."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic. `partitioned` topics follow the configured number; others have one partition."""

    name: str
    key: str
    schema: str
    partitioned: bool
    config: dict[str, str] = field(default_factory=dict)

    def full_name(self, prefix: str) -> str:
        """Return the name on the broker."""
        return prefix + self.name


def _delete(days: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}


ARRIVAL: Final = {"message.timestamp.type": "LogAppendTime"}
"""The broker stamps each message with its time of arrival. Event times are checked against it, so
that a second reading gives the same result; so is whether a training run came after a request."""
TRANSACTIONS: Final = TopicSpec(
    "transactions", "card_id", "Transaction", True, _delete(7) | ARRIVAL
)
FEATURES: Final = TopicSpec("features", "card_id", "FeatureVector", True, _delete(7))
DECISIONS: Final = TopicSpec("decisions", "card_id", "Decision", True, _delete(30))
LABELS: Final = TopicSpec("labels", "card_id", "Label", True, _delete(90) | ARRIVAL)
MODELS: Final = TopicSpec("models", "model_id", "ModelEvent", False, {"cleanup.policy": "compact"})
POLICY: Final = TopicSpec(
    "policy", "policy_id", "PolicyEvent", False, {"cleanup.policy": "compact"}
)
RETRAIN_REQUESTS: Final = TopicSpec(
    "retrain-requests", "reason", "RetrainRequest", False, _delete(30) | ARRIVAL
)
ALERTS: Final = TopicSpec("alerts", "rule", "Alert", False, _delete(30))
DEAD_LETTER: Final = TopicSpec("dead-letter", "original key", "DeadLetter", False, _delete(30))

ALL_TOPICS: Final = (
    TRANSACTIONS,
    FEATURES,
    DECISIONS,
    LABELS,
    MODELS,
    POLICY,
    RETRAIN_REQUESTS,
    ALERTS,
    DEAD_LETTER,
)
