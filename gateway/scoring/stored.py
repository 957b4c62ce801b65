"""Decisions that are no longer in the gateway's cache, read from the database."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from database.core.database import Database
from database.decisions.decisions import StoredDecision, find
from gateway.scoring.gateway import FoundDecision
from gateway.scoring.ownership import tenant_of
from runtime.repeated_lines import RepeatedLines
from schemas.errors import TemporaryError
from schemas.records import Decision, Transaction

log = structlog.get_logger(__name__)
ATTEMPTS: Final = 5
MAX_CARDS: Final = 1_000
"""Decisions on one transaction_id that are looked through, the newest ones."""
WAIT_S: Final = 0.05
"""Pause between attempts: the store lags a few ms behind the topic `decisions`."""


class StoredDecisions:
    """Looks up decisions in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lines = RepeatedLines()

    def find(self, transaction_id: str, tenant: str, card_id: str | None) -> Decision | None:
        """Return the newest decision on a tenant's transaction_id, on any card or on one. Blocks.

        A decision whose vector is not stored belongs to the operator's tenant.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        for stored in self._find(transaction_id, card_id):
            vector = stored.vector
            if tenant_of(None if vector is None else vector["transaction"]) == tenant:
                return stored.decision
        return None

    async def original(self, transaction: Transaction) -> FoundDecision | None:
        """Return the first decision on this transaction_id and card, or None if it is unknown."""
        names = transaction["transaction_id"], transaction["card_id"]
        loop = asyncio.get_running_loop()
        for _ in range(ATTEMPTS):
            try:
                found = await loop.run_in_executor(None, self._find, *names)
            except TemporaryError as error:
                if (more := self._lines.due("duplicate")) is not None:
                    log.warning("cannot look up a duplicate", reason=str(error), more=more)
                found = []
            if found:
                decision, vector = found[0].decision, found[0].vector
                return FoundDecision(decision, None if vector is None else vector["transaction"])
            await asyncio.sleep(WAIT_S)
        return None

    def _find(self, transaction_id: str, card_id: str | None) -> list[StoredDecision]:
        with self._database.read() as connection:
            return find(connection, transaction_id, card_id, limit=MAX_CARDS)
