"""Every metric of every service, in a closed list; services count through `Metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from runtime.build import build_labels
from runtime.kafka import errors
from runtime.metric_series import FROM_START

# They would double the number of series, and no rule or panel uses them.
disable_created_metrics()  # type: ignore[no-untyped-call]

LATENCY_S: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03,
    0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0,
)  # fmt: skip
ROWS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric; the unit is the last word of its name, or "" for a count of things."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS: Final = (
    MetricSpec("gauge", "build_info", "1 for what runs", ("version", "python", "catalogue")),
    MetricSpec("counter", "kafka_errors", "errors that Kafka clients reported", ("error",)),
    MetricSpec("gauge", "reachable", "1 while it answers", ("dependency",)),
    MetricSpec("gauge", "redis_memory_ratio", "memory that Redis uses of what it may use"),
    MetricSpec("counter", "redis_evicted", "keys that Redis evicted: their state is lost"),
    MetricSpec("counter", "stored_values_refused", "unreadable values of entities", ("kind",)),
    MetricSpec("counter", "records", "records read", ("topic",)),
    MetricSpec("counter", "published", "records handed to Kafka", ("topic",)),
    MetricSpec("counter", "dead_letters", "records that could not be served", ("error_class",)),
    MetricSpec("counter", "unread_fields", "context that could not be read", ("field",)),
    MetricSpec("counter", "duplicates", "transactions seen before"),
    MetricSpec("counter", "late", "transactions older than retention"),
    MetricSpec("counter", "fenced", "batches dropped: the partition is owned elsewhere"),
    MetricSpec("counter", "retries", "steps tried again", ("step",)),
    MetricSpec("counter", "labels_applied", "labels by what became of them", ("outcome",)),
    MetricSpec("counter", "decisions", "decisions", ("decision", "model_role")),
    MetricSpec("counter", "degraded", "decisions without a model's score", ("reason",)),
    MetricSpec("counter", "rule_hits", "decisions that a rule of the policy touched", ("rule",)),
    MetricSpec("counter", "answered_before", "vectors dropped: their position has a decision"),
    MetricSpec("counter", "refused", "bundles and policies that were refused", ("kind",)),
    MetricSpec("counter", "archived", "rows written to the archive", ("table",)),
    MetricSpec("counter", "stored", "new rows in the database", ("table",)),
    MetricSpec("counter", "unstored", "records that the database cannot hold", ("topic",)),
    MetricSpec("counter", "expired", "rows deleted from the database for their age", ("table",)),
    MetricSpec("gauge", "online_auc", "prequential AUC over the window", ("scores",)),
    MetricSpec("gauge", "online_frauds", "frauds in the window of the online learner"),
    MetricSpec("gauge", "online_better", "1 while the online adjustment is to be used"),
    MetricSpec("counter", "online_published", "adjusted bundles written and registered"),
    MetricSpec("counter", "restarts", "restarts by the watchdog"),
    MetricSpec("histogram", "batch_rows", "records in one batch", (), ROWS),
    MetricSpec("histogram", "stage_seconds", "time of a stage of a batch", ("stage",), LATENCY_S),
    MetricSpec("histogram", "latency_seconds", "from received to done, per batch", (), LATENCY_S),
    MetricSpec("gauge", "lag", "records not yet processed", ("topic", "partition")),
    MetricSpec("gauge", "freshness_seconds", "age of the newest processed event"),
    MetricSpec("gauge", "partitions", "partitions owned now"),
    MetricSpec("gauge", "unserved_partitions", "partitions that nobody reads", ("topic",)),
    MetricSpec("counter", "misplaced", "messages where their card_id does not lead", ("topic",)),
    MetricSpec("gauge", "buffered", "records read and held back"),
    MetricSpec("gauge", "ready", "1 when serving, 0 when waiting for Kafka or Redis"),
    MetricSpec("gauge", "model_info", "1 for the models in use", ("model_id", "role")),
    MetricSpec("gauge", "policy_info", "1 for the policy in use", ("version",)),
    MetricSpec("counter", "alerts", "alerts written", ("rule", "state")),
    MetricSpec("counter", "notifications", "alerts to people by outcome", ("outcome",)),
    MetricSpec("counter", "retrain_requests", "requests for a new model", ("reason",)),
    MetricSpec("counter", "rollbacks", "models taken out by the guard", ("test",)),
    MetricSpec("counter", "training_runs", "training runs by how they ended", ("state",)),
    MetricSpec("counter", "advances", "steps of candidates by the trainer itself", ("stage",)),
    MetricSpec("gauge", "training", "1 while a training run is under way"),
    MetricSpec("gauge", "training_queue", "requests and times that wait for a training run"),
    MetricSpec("gauge", "training_success_timestamp_seconds", "when a run last passed"),
    MetricSpec("gauge", "advances_waiting", "steps of candidates that wait for a person"),
    MetricSpec("gauge", "advances_unloaded", "candidates that no scorer has loaded in their time"),
    MetricSpec("gauge", "alerts_raised", "subjects that a rule has raised now", ("rule",)),
    MetricSpec(
        "gauge", "quality_precision", "precision, last day", ("model_id", "segment", "action")
    ),
    MetricSpec("gauge", "quality_recall", "recall, last day", ("model_id", "segment", "action")),
    MetricSpec("gauge", "quality_auc", "AUC of the score, last day", ("model_id", "segment")),
    MetricSpec(
        "gauge", "quality_alert_rate", "REVIEW and BLOCK, last day", ("model_id", "segment")
    ),
    MetricSpec("gauge", "quality_coverage", "share labelled, last day", ("model_id", "segment")),
    MetricSpec(
        "gauge", "quality_blocked_value", "blocked, base minor units", ("model_id", "segment")
    ),
    MetricSpec("gauge", "drift_psi", "PSI against the reference", ("column", "model_id")),
    MetricSpec("gauge", "drift_missing", "share of missing values", ("column",)),
    MetricSpec("gauge", "score_shifts", "shifts of the mean score since start", ("model_id",)),
    MetricSpec("gauge", "label_delay_seconds", "transaction to label", ("percentile",)),
    MetricSpec("gauge", "stage_delay_seconds", "time in a stage", ("stage", "percentile")),
    MetricSpec("gauge", "stage_behind", "transactions that a stage is behind", ("stage",)),
    MetricSpec("gauge", "topic_age_seconds", "age of the newest record", ("topic",)),
    MetricSpec("counter", "connections_refused", "connections beyond a limit", ("limit",)),
    MetricSpec("gauge", "cases", "review cases, and verdicts that are not labels yet", ("state",)),
    MetricSpec("counter", "login_failures", "names and passwords refused", ("reason",)),
    MetricSpec("counter", "api_requests", "answers of the gateway", ("route", "status")),
    MetricSpec("histogram", "api_seconds", "request to answer", ("route",), LATENCY_S),
    MetricSpec("gauge", "api_in_flight", "requests under way"),
    MetricSpec("gauge", "api_waiting", "transactions that wait for their decision"),
    MetricSpec("counter", "api_answers", "transactions by what answered them", ("source",)),
    MetricSpec("counter", "api_fallbacks", "answers by the policy's fallback", ("reason",)),
    MetricSpec("counter", "api_late", "decisions that came after their fallback"),
    MetricSpec("counter", "api_conflicts", "ids that were used for two transactions"),
    MetricSpec("gauge", "join_records", "records and labels by what became of them", ("outcome",)),
)


class Metrics:
    """The metrics of one process under the names fraud_<name>; all carry the label `service`."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        self._service = service
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}
        self._known: dict[tuple[object, ...], Counter | Gauge | Histogram] = {}
        for spec in METRICS:
            labels = ("service", *spec.labels)
            if spec.kind == "counter":
                self._metrics[spec.name] = Counter(
                    f"fraud_{spec.name}", spec.text, labels, registry=self.registry
                )
            elif spec.kind == "gauge":
                self._metrics[spec.name] = Gauge(
                    f"fraud_{spec.name}", spec.text, labels, registry=self.registry
                )
            else:
                self._metrics[spec.name] = Histogram(
                    f"fraud_{spec.name}", spec.text, labels,
                    registry=self.registry, buckets=spec.buckets,
                )  # fmt: skip
        ProcessCollector(registry=self.registry)
        self.set("build_info", 1, **build_labels())
        for name, of in FROM_START.get(service, ()):
            self._series(name, of)
        errors.listen(self._count_kafka_error)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter. Raises KeyError for a name that is not in the list."""
        series = self._series(name, labels)
        if not isinstance(series, Counter):
            raise TypeError(f"{name} is not a counter")
        series.inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge. Raises KeyError for a name that is not in the list."""
        series = self._series(name, labels)
        if not isinstance(series, Gauge):
            raise TypeError(f"{name} is not a gauge")
        series.set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add to a histogram. Raises KeyError for a name that is not in the list."""
        self.histogram(name, **labels).observe(value)

    def histogram(self, name: str, **labels: str) -> Histogram:
        """Return one histogram, to be kept where it is added to often."""
        series = self._series(name, labels)
        if not isinstance(series, Histogram):
            raise TypeError(f"{name} is not a histogram")
        return series

    def forget(self, name: str) -> None:
        """Drop every series of a metric, for example the lag of partitions given away."""
        self._metrics[name].clear()
        self._known = {key: series for key, series in list(self._known.items()) if key[0] != name}

    def _series(self, name: str, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        """Return one series; looking it up by its labels anew costs more than adding to it."""
        key = (name, *labels.items())
        series = self._known.get(key)
        if series is None:
            series = self._metrics[name].labels(service=self._service, **labels)
            self._known[key] = series
        return series

    def _count_kafka_error(self, error: str) -> None:
        self.count("kafka_errors", error=error)

    def exposition(self) -> bytes:
        """Return Prometheus' text format."""
        return generate_latest(self.registry)


def read_exposition(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield name, labels and value of each sample in Prometheus' text format."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
