"""Messages of `labels` as columns: which transaction, what verdict, and since when it is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.kafka.protocols import Message
from schemas.errors import BadMessage
from schemas.keys import hash_id, identities
from schemas.records import Label
from schemas.validation import SchemaRegistry, read_label


class LabelColumns(NamedTuple):
    """The readable labels of a batch, in order of arrival.

    Attributes:
        identity: hash of transaction id and card id, see `schemas.keys.identities`.
        fraud: whether the verdict is FRAUD.
        transaction_time: when the transaction happened, ms.
        known_at: when the verdict was known, ms: its `label_time`, but neither before its
            transaction nor after its arrival. A sender whose clock or unit is wrong can so neither
            make a verdict stand for ever nor hide it.
    """

    identity: npt.NDArray[np.uint64]
    fraud: npt.NDArray[np.bool_]
    transaction_time: npt.NDArray[np.int64]
    known_at: npt.NDArray[np.int64]


def decode_labels(
    messages: Sequence[Message],
    *,
    pan_key: bytes | None = None,
    registry: SchemaRegistry | None = None,
) -> LabelColumns:
    """Decode labels; those that break a rule are left out, since each has its dead letter.

    Raises:
        RegistryUnavailable: the schema registry does not answer.
    """
    labels: list[Label] = []
    arrived: list[int] = []
    for message in messages:
        try:
            labels.append(
                read_label(
                    message.value or b"",
                    now_ms=message.arrived,
                    pan_key=pan_key,
                    registry=registry,
                )
            )
        except BadMessage:
            continue
        arrived.append(message.arrived)
    happened = np.array([label["transaction_time"] for label in labels], np.int64)
    stated = np.array([label["label_time"] for label in labels], np.int64)
    return LabelColumns(
        identities(
            np.array([hash_id(label["transaction_id"]) for label in labels], np.uint64),
            np.array([hash_id(label["card_id"]) for label in labels], np.uint64),
        ),
        np.array([label["label"] == "FRAUD" for label in labels], np.bool_),
        happened,
        np.maximum(np.minimum(stated, np.array(arrived, np.int64)), happened),
    )
