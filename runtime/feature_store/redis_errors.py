"""What the Redis client raises, as errors of ours: passing, fatal, or for the operator to mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis
from redis import exceptions

from schemas.errors import ConfigurationError, FatalError, StoreUnavailable, UnreadableValue

MIN_VERSION: Final = 7
"""The first version of Redis with function libraries."""
_PASSING: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.MasterDownError,
)
_OF_A_CLUSTER: Final = (
    exceptions.AskError,  # MOVED as well
    exceptions.ClusterCrossSlotError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
)
_DAMAGED: Final = "DAMAGED "
"""Begins an error of `commit.lua` about a key whose value is not of its type."""
_PASSING_CODES: Final = ("LOADING", "MASTERDOWN", "MISCONF", "BUSY", "NOREPLICAS")


def cluster_fault() -> str:
    """Return why a Redis Cluster is refused, as the end of a sentence about the server."""
    return (
        "is a Redis Cluster, which is not supported, because one commit changes keys of many "
        "slots: give FRAUD_REDIS_URL a server with cluster-enabled no"
    )


def unreadable(key: str, fault: str) -> UnreadableValue:
    """Return the error for a position, epoch or other value that stands beside the entities."""
    return UnreadableValue(
        f"Redis holds an unreadable value under {key}: {fault}. Somebody else has changed it, or "
        "it is damaged: stop the stream processors, delete the keys under FRAUD_TOPIC_PREFIX and "
        "run `python -m stream_features rebuild`"
    )


def unknown_command(error: redis.ResponseError) -> bool:
    """Return whether the server does not have the command: too old, or renamed by its provider."""
    return "unknown command" in str(error).lower()


@contextmanager
def typed_errors(url: str) -> Iterator[None]:
    """Raise an error of ours for one of the client.

    Args:
        url: the address without its password, for the text.

    Raises:
        ConfigurationError: the server refuses this user, is too old, or is a cluster.
        StoreUnavailable: the same call may succeed later.
        UnreadableValue: a value beside the entities is not of its type.
        FatalError: anything else that the server refuses.
    """
    try:
        yield
    except redis.AuthenticationError as error:
        raise ConfigurationError(
            f"Redis at {url} refuses this user: {error}; check FRAUD_REDIS_USERNAME and "
            "FRAUD_REDIS_PASSWORD"
        ) from error
    except exceptions.NoPermissionError as error:
        raise ConfigurationError(
            f"Redis at {url} refuses this user: {error}; give the user of FRAUD_REDIS_USERNAME the "
            "rights of the table in docs/operating.md"
        ) from error
    except _PASSING as error:
        raise StoreUnavailable(f"Redis at {url} is not available: {error}") from error
    except _OF_A_CLUSTER as error:
        raise ConfigurationError(f"Redis at {url} {cluster_fault()}") from error
    except redis.ResponseError as error:
        if str(error).startswith(_DAMAGED):
            key = str(error).removeprefix(_DAMAGED).partition(" script: ")[0]
            raise unreadable(key, "it is not of the type that it must have") from error
        if str(error).startswith(_PASSING_CODES):
            raise StoreUnavailable(f"Redis at {url} is not available: {error}") from error
        if unknown_command(error):
            raise ConfigurationError(
                f"Redis at {url} lacks a command that is needed ({error}): give FRAUD_REDIS_URL "
                f"the address of a Redis {MIN_VERSION} or newer, or of a Valkey, with every command"
            ) from error
        raise FatalError(f"Redis at {url} refused a command: {error}") from error
    except redis.RedisError as error:  # an invalid answer: the connection is broken
        raise StoreUnavailable(f"Redis at {url} is not available: {error}") from error
