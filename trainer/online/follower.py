"""The online learner on the topics: `features` and `labels` in, adjusted bundles out.

No consumer group: the state file says where to read on. The decisions are not needed: the
champion's bundle scores the vectors anew, because a decision holds the calibrated score, whose
steps hide most of the ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import structlog

from runtime.clock import Clock
from runtime.kafka.protocols import Message, Reader
from runtime.metrics import Metrics
from schemas.codec.vectors import decode_feature_vectors
from schemas.errors import BadMessage, ConfigurationError
from schemas.keys import hash_id, identities
from schemas.manifest import ANYBODY, BundleTrust
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent
from schemas.topics import FEATURES, LABELS
from schemas.validation import SchemaRegistry, read_label
from scorer.model.bundle import load_model
from scorer.serving import bundle_directory
from trainer.online.learning import Online
from trainer.online.publish import Publisher

log = structlog.get_logger(__name__)
SERVICE: Final = "online"
FOLLOWED: Final = (FEATURES, LABELS)
MAX_ROWS: Final = 5_000
POLL_S: Final = 0.2
REPORTED: Final = {
    "auc": "online_auc", "champion_auc": "champion_auc", "auc_difference": "difference",
    "auc_difference_low": "low", "auc_difference_high": "high", "frauds": "frauds",
}  # fmt: skip
"""Metrics of a derived bundle, prequential, by their names in a comparison."""


class OnlineFollower:
    """Owns the learner. Single-threaded.

    Args:
        readers: by plain topic name.
        trust: bundles must be signed by its key; without a signer nothing is published then.
    """

    def __init__(
        self,
        online: Online,
        readers: Mapping[str, Reader],
        publisher: Publisher,
        *,
        clock: Clock,
        metrics: Metrics,
        pan_key: bytes | None = None,
        label_registry: SchemaRegistry | None = None,
        trust: BundleTrust = ANYBODY,
    ) -> None:
        self.online = online
        self._readers, self._publisher = readers, publisher
        self._clock, self._metrics = clock, metrics
        self._pan_key, self._label_registry = pan_key, label_registry
        self._trust = trust
        self._newest = dict.fromkeys(readers, 0)
        self._champion: ModelEvent | None = None
        self._serving = ("", "")

    def step(self, timeout_s: float = POLL_S) -> int:
        """Take in a batch of the topic that is further behind in time; return its size.

        Raises:
            BrokerUnavailable: Kafka does not answer; nothing is lost, call again.
        """
        order = sorted(self._newest, key=lambda name: self._newest[name])
        for name, patience in ((order[0], 0.0), (order[-1], timeout_s)):
            messages = self._readers[name].poll_batch(MAX_ROWS, patience)
            if messages:
                self._newest[name] = max(message.timestamp for message in messages)
                self._metrics.count("records", len(messages), topic=messages[0].topic)
                (self._vectors if name == FEATURES.name else self._labels)(messages)
                return len(messages)
        return 0

    def follow_champion(self, states: ModelStates) -> bool:
        """Learn on top of the champion of `states`; return whether there is one to learn from.

        Raises:
            ConfigurationError: its bundle cannot be loaded.
        """
        event = next(iter(states.champions()), None)
        if event is None:
            return False
        serving = event["model_id"], event["sha256"]
        if serving != self._serving:
            model = load_model(
                bundle_directory(event["artefact_uri"]), event["sha256"], self._trust
            )
            self.online.follow(model)
            self._champion, self._serving = event, serving
            log.info("champion", model_id=event["model_id"], base=self.online.base)
        return True

    def evaluate(self) -> dict[str, Any]:
        """Compare, publish or move the adjustment if it is time to, and return a report.

        Raises:
            BrokerUnavailable: Kafka does not answer.
            ConfigurationError: a bundle cannot be read or written.
        """
        online, publisher = self.online, self._publisher
        states = publisher.registry.states()
        if not self.follow_champion(states) or self._champion is None:
            return {"champion": None}
        if publisher.taken_out(states):
            log.warning("taken out by somebody else: it has to prove itself anew")
            online.setback()
        comparison = online.compare()
        better = online.rule.better
        report = {"champion": self._champion["model_id"], "better": better, "published": None}
        if comparison is not None:
            report |= comparison.document()
            self._metrics.set("online_auc", comparison.online, scores="online")
            self._metrics.set("online_auc", comparison.champion, scores="champion")
            self._metrics.set("online_frauds", comparison.frauds)
        self._metrics.set("online_better", better)
        if self._trust.public_key is None or self._publisher.signer is not None:
            report["published"] = self._place(states, better, report)
        log.info("compared", **report)
        return report

    def _place(self, states: ModelStates, better: bool, report: dict[str, Any]) -> str | None:
        online, publisher = self.online, self._publisher
        base = online.base
        publisher.leave(states, base)
        live = publisher.live(states, base)
        if live is not None:
            publisher.place(states, live, better)
            published = load_model(
                bundle_directory(live.event["artefact_uri"]), live.event["sha256"], self._trust
            ).adjustment
        else:
            published = None
        now, states = self._clock.now_ms(), publisher.registry.states()
        if self._champion is None or not online.counts.frauds:
            return None
        if publisher.too_soon(states, base, better, now):
            return None
        change = online.learner.adjustment(base, publisher.next_version(states, base), now)
        if not online.differs(change, published):
            return None
        metrics = {name: float(report[of]) for name, of in REPORTED.items() if of in report}
        name = publisher.publish(self._champion, change, metrics, better)
        self._metrics.count("online_published")
        return name

    def _vectors(self, messages: Sequence[Message]) -> None:
        vectors = decode_feature_vectors([message.value for message in messages])
        usable = vectors.known & (vectors.flags & 1 == 0) & ~vectors.given_back
        self.online.transactions(
            identities(vectors.transaction_hash, vectors.card_hash)[usable],
            vectors.matrix[usable],
            vectors.received_at[usable],
        )

    def _labels(self, messages: Sequence[Message]) -> None:
        ids, cards, frauds = list[int](), list[int](), list[bool]()
        refused = 0
        for message in messages:
            try:
                label = read_label(
                    message.value or b"",
                    now_ms=message.arrived,
                    pan_key=self._pan_key,
                    registry=self._label_registry,
                )
            except BadMessage:  # the engine has dead-lettered it
                refused += 1
                continue
            ids.append(hash_id(label["transaction_id"]))
            cards.append(hash_id(label["card_id"]))
            frauds.append(label["label"] == "FRAUD")
        keys = identities(np.array(ids, np.uint64), np.array(cards, np.uint64)).tolist()
        counts = self.online.counts
        before = counts.frauds + counts.genuine
        self.online.labels(keys, frauds)
        learned = counts.frauds + counts.genuine - before
        outcomes = (("learned", learned), ("refused", refused), ("kept", len(keys) - learned))
        for outcome, count in outcomes:
            self._metrics.count("labels_applied", count, outcome=outcome)


def restored(online: Online, state: Mapping[str, Any]) -> None:
    """Give a learner its saved state.

    Raises:
        ConfigurationError: it is of another version of this program.
    """
    try:
        online.restore(dict(state))
    except (LookupError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"the saved state does not fit this program ({error}): remove it, and learning begins "
            "anew"
        ) from error
