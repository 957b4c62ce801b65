"""The error tree of the whole project.

FraudError
├── ConfigurationError   the operator must change a setting or a file
│   └── ImpossibleTransition  a model cannot go to that stage from where it stands
├── BadMessage           one message is at fault: it goes to the dead-letter topic
│   ├── UndecodableMessage
│   ├── UnknownSchema
│   └── InvalidField
├── TemporaryError       wait and try again
│   ├── StoreUnavailable
│   ├── BrokerUnavailable
│   ├── DatabaseUnavailable
│   ├── MembershipLost
│   ├── RegistryUnavailable
│   ├── ArchiveUnavailable
│   ├── TrackingUnavailable
│   └── TrainerBusy      another trainer is at work
└── FatalError           this process must not go on
    ├── DeliveryRejected  Kafka will never take a message
    ├── Fenced           another worker owns the partition
    ├── EmptyStore       the state is gone while Kafka has committed positions
    └── UnreadableValue  a value in the feature store is not one of ours
"""

from __future__ import annotations

from collections.abc import Sequence


class FraudError(Exception):
    """Root of every error that this project raises on purpose."""


class ConfigurationError(FraudError):
    """A setting or a file is wrong; the text names it, its value and the remedy."""


class ImpossibleTransition(ConfigurationError):
    """No step leads a model to the wanted stage; `possible` are the stages that it can go to."""

    def __init__(self, model_id: str, present: str, wanted: str, possible: Sequence[str]) -> None:
        super().__init__(
            f"{model_id} is {present} and cannot become {wanted}: "
            f"possible is {' or '.join(possible)}"
            + (", by registering its bundle" if tuple(possible) == ("REGISTERED",) else "")
        )
        self.model_id, self.present, self.wanted = model_id, present, wanted
        self.possible = tuple(possible)


class BadMessage(FraudError):
    """One message cannot be served. `field` and `value` say where, when known."""

    def __init__(self, reason: str, *, field: str | None = None, value: object = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.value = value


Rejected = tuple[int, BadMessage]
"""A message of a batch that cannot be served: its place in the batch, and why."""


class UndecodableMessage(BadMessage):
    """Neither Avro single-object encoding nor JSON, or cut short."""


class UnknownSchema(BadMessage):
    """Well-formed, but of a schema that this reader does not know or does not expect."""


class InvalidField(BadMessage):
    """A field is missing, of the wrong type or outside its range.

    `fault` says what is wrong without the value, so that equal faults can be counted.
    """

    def __init__(
        self, reason: str, *, field: str | None = None, value: object = None, fault: str = ""
    ) -> None:
        super().__init__(reason, field=field, value=value)
        self.fault = fault or reason


class TemporaryError(FraudError):
    """The world outside is not ready; the same call may succeed later."""


class StoreUnavailable(TemporaryError):
    """The feature store does not answer."""


class BrokerUnavailable(TemporaryError):
    """Kafka does not answer, or has not yet acknowledged everything."""


class DatabaseUnavailable(TemporaryError):
    """The database does not answer, or is busy; nothing of the transaction was written."""


class MembershipLost(TemporaryError):
    """This member of a consumer group cannot go on: close it and join again."""


class RegistryUnavailable(TemporaryError):
    """The schema registry does not answer."""


class ArchiveUnavailable(TemporaryError):
    """The archive's storage refuses or does not answer; nothing was written."""


class TrackingUnavailable(TemporaryError):
    """The MLflow server does not answer, or refuses a run."""


class TrainerBusy(TemporaryError):
    """Another training run or service is using the folder of runs: only one may."""


class FatalError(FraudError):
    """Going on would corrupt data; stop this process or give up this assignment."""


class DeliveryRejected(FatalError):
    """Kafka refused a message for good: too large, not authorised, no such topic."""


class Fenced(FatalError):
    """Another worker has taken the partition; this batch must be dropped."""


class EmptyStore(FatalError):
    """The feature store is empty although positions were committed: rebuild first."""


class UnreadableValue(FatalError):
    """A value in the feature store is not what a stream processor writes; the text has its key."""
