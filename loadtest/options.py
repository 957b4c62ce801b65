"""Command-line options that several commands share, and their conversion into settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from schemas.errors import ConfigurationError

if TYPE_CHECKING:  # --help must not load these
    from loadtest.deploy.deployment import Target
    from loadtest.traffic.feed import FeedSettings

FIRST_DAY: Final = "2025-03-01"
LabelOrder = Literal["due", "ahead", "none"]
"""See `FeedSettings.labels`."""

Customers = Annotated[int, typer.Option(min=300, help="people in the generated world")]
Seed = Annotated[int, typer.Option(help="the same seed gives the same world")]
FirstDay = Annotated[str, typer.Option(help="first day of the world, YYYY-MM-DD")]
NewPattern = Annotated[
    int | None,
    typer.Option("--new-pattern-day", min=0, help="day (0: first) on which a new fraud appears"),
]
NewPatternFactor = Annotated[
    float, typer.Option(min=0, help="multiplies the incidents of the new fraud")
]
DriftDay = Annotated[
    int | None,
    typer.Option(min=0, help="day (0: first) from which honest customers change their habits"),
]
Messages = Annotated[
    bool, typer.Option("--messages", help="also write each transaction as its Avro message")
]
FraudFactor = Annotated[float, typer.Option(min=0, help="multiplies the incidents of fraud")]
Bootstrap = Annotated[str | None, typer.Option(help="a running Kafka; default: start one")]
Redis = Annotated[str | None, typer.Option(help="URL of a running Redis, redis://…")]
Prefix = Annotated[
    str | None, typer.Option(help="topic prefix; with --bootstrap unique by default")
]
Partitions = Annotated[int, typer.Option(min=1, help="partitions of the topics keyed by card")]
Workers = Annotated[int, typer.Option(min=1, help="stream processors")]
Scorers = Annotated[int, typer.Option(min=1, help="scorers")]
Start = Annotated[bool, typer.Option("--services/--no-services", help="start the services")]
ModelDir = Annotated[Path | None, typer.Option(help="model bundle; default: train one once")]
NoModel = Annotated[bool, typer.Option("--no-model", help="score by the policy's rules alone")]
WarmUp = Annotated[float, typer.Option(min=0, help="seconds of traffic before measuring")]
Check = Annotated[bool, typer.Option("--check", help="fail if a bound of bounds.json is broken")]


def day_of(text: str) -> int:
    """Return the day number of --first-day.

    Raises:
        ConfigurationError: `text` is not a date.
    """
    from loadtest.world.world import parse_day

    try:
        return parse_day(text)
    except ValueError:
        raise ConfigurationError(f"--first-day {text!r} is not a date: write 2025-03-01") from None


def target_of(
    bootstrap: str | None, redis: str | None, prefix: str | None, partitions: int, services: bool
) -> Target:
    """Return where to run; `services` is false if the services are already running there.

    Raises:
        ConfigurationError: the services are running, but `bootstrap` is missing.
    """
    from loadtest.deploy.deployment import Target

    if not services:
        if bootstrap is None:
            raise ConfigurationError(
                "--no-services needs the --bootstrap and --redis on which the services run"
            )
        prefix = prefix or ""
    return Target(bootstrap=bootstrap, redis=redis, prefix=prefix, partitions=partitions)


def feed_of(
    customers: int,
    seed: int,
    first_day: str,
    new_pattern_day: int | None,
    *,
    input_path: Path | None = None,
    mapping: Path | None = None,
    rows: int | None = None,
    labels: LabelOrder = "due",
) -> FeedSettings:
    """Return the settings of the feed; the days are counted from `first_day`.

    Raises:
        ConfigurationError: a file comes without a mapping, or `first_day` is not a date.
    """
    from loadtest.traffic.feed import FeedSettings

    if input_path is not None and mapping is None:
        raise ConfigurationError(f"--input {input_path} needs a --mapping; see loadtest/mappings")
    first = day_of(first_day)
    return FeedSettings(
        customers=customers,
        seed=seed,
        first_day=first,
        new_pattern_day=None if new_pattern_day is None else first + new_pattern_day,
        input=input_path,
        mapping=mapping,
        rows=rows,
        labels=labels,
    )
