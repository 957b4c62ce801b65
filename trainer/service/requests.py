"""Reads retrain requests, and looks after runs between two polls; without Kafka runs go on."""

from __future__ import annotations

from typing import Final

import structlog

from runtime.kafka.clients import KafkaConsumer
from runtime.kafka.topic_admin import create_topics
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, MembershipLost
from schemas.topics import RETRAIN_REQUESTS
from trainer.service.training_service import SERVICE, TrainingService

log = structlog.get_logger(__name__)
GROUP: Final = "trainer"
MAX_REQUESTS: Final = 500
POLL_S: Final = 1.0
TOPICS_WAIT_S: Final = 3.0


class RetrainRequests:
    """Joins the group `trainer` when Kafka answers, and again when it has lost its membership."""

    def __init__(self, settings: Settings, service: TrainingService) -> None:
        self._settings, self._service = settings, service
        self._consumer: KafkaConsumer | None = None

    def step(self) -> str:
        """Start and end runs that are due, then read requests; return why it is not ready, or "".

        Raises:
            BrokerUnavailable, MembershipLost: Kafka does not answer; call again.
        """
        self._service.step()
        if self._consumer is None:
            self._consumer = self._join()
        else:
            self._commit(self._consumer)
        try:
            self._service.receive(self._consumer.poll_batch(MAX_REQUESTS, POLL_S))
        except MembershipLost:
            self.close()
            raise
        return "" if self._consumer.assignment() else "no partitions yet"

    def close(self) -> None:
        """Leave the group."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _join(self) -> KafkaConsumer:
        create_topics(self._settings, TOPICS_WAIT_S, SERVICE)
        return KafkaConsumer(
            self._settings,
            self._settings.group(GROUP),
            [self._settings.topic(RETRAIN_REQUESTS)],
            on_revoke=self._service.revoked,
            instance_id=self._settings.worker_id,
        )

    def _commit(self, consumer: KafkaConsumer) -> None:
        try:
            consumer.commit(self._service.commits())
        except (BrokerUnavailable, MembershipLost) as error:
            # The next owner reads them again, and passes over those whose runs are recorded.
            log.warning("not committed", reason=str(error))
