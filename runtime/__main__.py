"""Command line for whoever sets Kafka up: `python -m runtime`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from runtime.command_line import CONFIGURATION_ERROR, Json, run_command, say, write_report
from runtime.settings import load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
topics = typer.Typer(no_args_is_help=True, help="Create the topics, or verify them.")
app.add_typer(topics, name="topics")
users = typer.Typer(no_args_is_help=True, help="Create the users of the services.")
app.add_typer(users, name="users")


@app.callback()
def runtime() -> None:
    """Set Kafka up for every service."""


@topics.command("create")
def create(json_path: Json = None) -> None:
    """Create the topics that are missing, as a user who may; verify the others.

    Nothing is created while an existing topic is not what it must be. Afterwards services need no
    right to create topics.

    Example: FRAUD_BOOTSTRAP=localhost:9092 FRAUD_PARTITIONS=8 python -m runtime topics create
    """
    _administer(None, create=True, json_path=json_path)


@topics.command("check")
def check(
    service: Annotated[
        str | None,
        typer.Option(help="also verify that this user has the rights that a service needs"),
    ] = None,
    json_path: Json = None,
) -> None:
    """Verify the topics without changing anything; exit code 2 if a service could not run.

    Example: python -m runtime topics check --service scorer
    """
    _administer(service, create=False, json_path=json_path)


@users.callback()
def of_users() -> None:
    """Create the users of the services."""


@users.command("create")
def create_all() -> None:
    """Create a user for each service, by SCRAM-SHA-512, with the rights that it needs.

    Run it as an administrator of a broker with an authoriser. The password of a service is read
    from KAFKA_PASSWORD_ and its name, like KAFKA_PASSWORD_SCORER.

    Example: FRAUD_BOOTSTRAP=localhost:9094 python -m runtime users create
    """
    from runtime.kafka.administration.rights import RIGHTS
    from runtime.kafka.administration.users import create_users

    passwords = {
        service: os.environ.get(f"KAFKA_PASSWORD_{service.upper()}", "") for service in RIGHTS
    }
    create_users(load_settings(), passwords)
    say(f"these users can log in: {', '.join(RIGHTS)}")


def _administer(service: str | None, *, create: bool, json_path: Json) -> None:
    from runtime.kafka.administration.rights import RIGHTS
    from runtime.kafka.topic_admin import TopicAdministration
    from schemas.errors import ConfigurationError

    if service is not None and service not in RIGHTS:
        raise ConfigurationError(f"--service {service}: there are {', '.join(sorted(RIGHTS))}")
    administration = TopicAdministration(load_settings())
    found = administration.check(service, create=create)
    for name in administration.created:
        say(f"created {name}")
    for warning in found.warnings:
        say(f"warning: {warning}", "yellow")
    for problem in found.problems:
        say(f"error: {problem}", "red")
    if not found.problems:
        say("the topics are as they must be" if not found.warnings else "every service can run")
    report = {
        "created": administration.created,
        "problems": found.problems,
        "warnings": found.warnings,
    }
    write_report(report, json_path)
    if found.problems:
        raise typer.Exit(CONFIGURATION_ERROR)


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app)


if __name__ == "__main__":
    main()
