"""The records of every topic as typed dictionaries: exactly what the codec reads and writes."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

Channel = Literal["POS", "ECOM", "ATM", "MOTO", "OTHER"]
Kind = Literal["PURCHASE", "REFUND", "REVERSAL", "VERIFICATION"]
Action = Literal["APPROVE", "REVIEW", "BLOCK"]
Stage = Literal["REGISTERED", "SHADOW", "CANARY", "CHAMPION", "RETIRED", "ROLLED_BACK"]


class Transaction(TypedDict):
    """A transaction; times in ms since the epoch, amount in minor units of `currency`.

    `unread` names the context fields that came with a value that could not be read.
    """

    transaction_id: str
    event_time: int
    card_id: str
    customer_id: NotRequired[str | None]
    merchant_id: str
    amount: int
    currency: str
    mcc: NotRequired[int | None]
    channel: NotRequired[Channel]
    device_id: NotRequired[str | None]
    ip: NotRequired[str | None]
    ip_country: NotRequired[str | None]
    card_country: NotRequired[str | None]
    merchant_country: NotRequired[str | None]
    latitude: NotRequired[float | None]
    longitude: NotRequired[float | None]
    attributes: NotRequired[dict[str, str]]
    kind: NotRequired[Kind]
    unread: NotRequired[list[str]]


class FeatureVector(TypedDict):
    """A transaction with its vector (little-endian float32 bytes) and source position."""

    source_partition: int
    source_offset: int
    received_at: int
    computed_at: int
    duplicate: bool
    late: bool
    fingerprint: bytes
    vector: bytes
    transaction: Transaction


class Reason(TypedDict):
    """Why a transaction was not approved; contribution in log-odds."""

    code: str
    text: str
    contribution: float | None


class ShadowScore(TypedDict):
    """The score of a model in shadow, which decides nothing."""

    model_id: str
    score: float


class Decision(TypedDict):
    """The answer to one transaction."""

    source_partition: int
    source_offset: int
    transaction_id: str
    card_id: str
    merchant_id: str
    event_time: int
    amount: int
    currency: str
    decision: Action
    score: float | None
    anomaly_score: float | None
    model_id: str | None
    model_role: Literal["NONE", "CHAMPION", "CANARY"]
    policy_version: str
    duplicate: bool
    late: bool
    degraded: str | None
    rule_hits: list[str]
    reasons: list[Reason]
    shadows: list[ShadowScore]
    received_at: int
    computed_at: int
    decided_at: int
    kind: Kind
    unread: list[str]


class Label(TypedDict):
    """Whether a transaction turned out to be fraud; times in ms."""

    transaction_id: str
    card_id: str
    label: Literal["FRAUD", "GENUINE"]
    source: NotRequired[Literal["CHARGEBACK", "ANALYST", "CUSTOMER", "SIMULATION", "OTHER"]]
    transaction_time: int
    label_time: int


class ModelEvent(TypedDict):
    """One step in the life of a model."""

    model_id: str
    stage: Stage
    canary_share: float | None
    artefact_uri: str
    sha256: str
    fingerprint: bytes
    metrics: dict[str, float]
    occurred_at: int
    actor: str
    comment: str | None


class PolicyEvent(TypedDict):
    """A whole policy as a JSON document."""

    policy_id: str
    version: str
    document: str
    occurred_at: int
    actor: str


class Alert(TypedDict):
    """A notice to the people who run the system."""

    rule: str
    severity: Literal["INFO", "WARNING", "CRITICAL"]
    summary: str
    detail: dict[str, str]
    service: str
    occurred_at: int


class DeadLetter(TypedDict):
    """A message that could not be served."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    error_class: str
    field: str | None
    reason: str
    service: str
    failed_at: int
