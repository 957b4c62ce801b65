"""The series that a process exports from its start, as 0, even if nothing has happened yet.

A rule or a panel that asks for one of these always gets an answer. `metrics` creates them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final

from runtime.kafka.errors import COMMON

Series = tuple[str, dict[str, str]]
"""Name in the list of metrics, and labels but `service`."""
EXPIRING: Final = (
    "decisions", "vectors", "policies", "cases", "audit", "attempts", "sessions", "devices",
)  # fmt: skip
"""Tables of which the store deletes old rows."""
CONTEXT_FIELDS: Final = (
    "channel", "mcc", "ip_country", "card_country", "merchant_country", "customer_id", "device_id",
    "ip", "latitude", "longitude", "attributes",
)  # fmt: skip
"""`schemas.rules.transaction.CONTEXT`, which takes half a second to import."""
ALL_SEGMENTS: Final = "ALL"
"""The label `segment` of a figure that counts every channel."""


def _each(name: str, **values: tuple[str, ...]) -> Iterator[Series]:
    """Yield the series of every combination of label values."""
    for chosen in product(*values.values()):
        yield name, dict(zip(values, chosen, strict=True))


_OF_KAFKA: Final = (*_each("kafka_errors", error=COMMON), *_each("retries", step=("kafka",)))
_OF_SERVICE: Final = (("ready", {}), *_OF_KAFKA)
_OF_WEB: Final = tuple(_each("connections_refused", limit=("total", "address")))
_OF_BAD_INPUT: Final = tuple(
    _each("dead_letters", error_class=("UndecodableMessage", "UnknownSchema", "InvalidField"))
)

FROM_START: Final[Mapping[str, tuple[Series, ...]]] = {
    "stream_features": (
        *_OF_SERVICE,
        *_OF_BAD_INPUT,
        *_each("retries", step=("redis",)),
        *_each("labels_applied", outcome=("nothing", "pending", "added", "removed", "refused")),
        *_each("unread_fields", field=CONTEXT_FIELDS),
        *_each("stored_values_refused", kind=("card", "merchant", "device", "ip")),
        *((name, {}) for name in ("duplicates", "late", "fenced", "restarts", "redis_evicted")),
        *((name, {}) for name in ("batch_rows", "latency_seconds", "partitions", "buffered")),
    ),
    "scorer": (
        *_OF_SERVICE,
        *_OF_BAD_INPUT,
        *_each("retries", step=("stood still",)),
        *_each(
            "decisions",
            decision=("APPROVE", "REVIEW", "BLOCK"),
            model_role=("NONE", "CHAMPION", "CANARY"),
        ),
        *_each("degraded", reason=("no_model", "unknown_fingerprint")),
        *_each("refused", kind=("bundle", "policy", "event")),
        *_each("stage_seconds", stage=("batch", "decode", "decide", "publish")),
        *((name, {}) for name in ("batch_rows", "latency_seconds", "partitions")),
        ("answered_before", {}),
    ),
    "gateway": (
        *_OF_SERVICE,
        *_OF_WEB,
        *_each("api_requests", route=("/score-transaction",), status=("200",)),
        *_each("api_seconds", route=("/score-transaction",)),
        *_each("api_answers", source=("decision", "fallback", "conflict", "refused")),
        *_each("api_fallbacks", reason=("deadline", "kafka")),
        *((name, {}) for name in ("api_in_flight", "api_waiting", "api_late", "api_conflicts")),
    ),
    "archiver": (
        *_OF_SERVICE,
        *_each("retries", step=("archive",)),
        *_each("archived", table=("features", "decisions", "labels")),
        *_each("refused", kind=("features", "decisions", "labels")),
        *_each("stage_seconds", stage=("append",)),
    ),
    "store": (
        *_OF_SERVICE,
        *_each("retries", step=("database", "lock")),
        *_each("stored", table=("decisions", "vectors", "cases", "policies")),
        *_each("expired", table=EXPIRING),
        *_each("reachable", dependency=("kafka", "database")),
        *_each("stage_seconds", stage=("store",)),
        ("batch_rows", {}),
    ),
    "trainer": (
        *_OF_SERVICE,
        *_each(
            "training_runs",
            state=("passed", "refused by gates", "refused by data check", "failed"),
        ),
        *_each("advances", stage=("SHADOW", "CANARY", "CHAMPION", "RETIRED")),
        *_each("refused", kind=("retrain-requests",)),
        *(
            (name, {})
            for name in ("training", "training_queue", "advances_waiting", "advances_unloaded")
        ),
    ),
    "online": (
        *_OF_SERVICE,
        *_each("labels_applied", outcome=("learned", "refused", "kept")),
        *((name, {}) for name in ("online_frauds", "online_better", "online_published")),
    ),
    "dashboard": (
        *_OF_SERVICE,
        *_OF_WEB,
        *_each("login_failures", reason=("wrong", "locked", "expired")),
    ),
    "monitor": (
        *_OF_SERVICE,
        *_each("retries", step=("rollback",)),
        *_each("notifications", outcome=("sent", "failed", "dropped")),
        *_each("refused", kind=("features", "decisions", "labels", "models")),
        *_each("retrain_requests", reason=("precision", "missed_frauds", "drift")),
        *_each("rollbacks", test=("block rate", "alert rate", "score distance", "precision")),
    ),
}
"""By service. Series whose labels depend on the data (models, partitions, rules) come later."""
