"""`python -m dashboard dead-letters` shows dead letters and sends their messages again.

It is a command of the dashboard because what it sends is audited, in the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.clock import SystemClock
from runtime.command_line import Json, errors, operator, require_folder, say, write_report
from runtime.settings import load_settings
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from dashboard.dead_letters.letters import LetterFilter
    from dashboard.dead_letters.redrive import Redrive

commands = typer.Typer(
    no_args_is_help=True,
    help="Messages that could not be served, on the topic dead-letter; card numbers are masked.",
)
Service = Annotated[str, typer.Option(help="only of this service: stream_features or scorer")]
Topic = Annotated[str, typer.Option(help="only from this topic, without the prefix")]
ErrorClass = Annotated[str, typer.Option("--error", help="only of this class, as InvalidField")]
Field = Annotated[str, typer.Option(help="only about this field, as currency")]


@commands.command("list")
def show_newest(
    service: Service = "",
    topic: Topic = "",
    error_class: ErrorClass = "",
    field: Field = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="letters to show")] = 50,
    before: Annotated[int | None, typer.Option(min=0, help="only letters below this one")] = None,
    json_path: Json = None,
) -> None:
    """List the newest letters that match, newest first.

    Example: python -m dashboard dead-letters list --topic transactions --field currency
    """
    from datetime import UTC, datetime

    from rich.markup import escape
    from rich.table import Table

    from dashboard.dead_letters.assembly import dead_letters
    from dashboard.dead_letters.words import row

    require_folder(json=json_path)
    wanted = _filter(service, topic, error_class, field)
    found = dead_letters(load_settings()).newest(wanted, limit=limit, before=before)
    table = Table("letter", "failed (UTC)", "from", "error", "field", "reason")
    for letter in found.letters:
        record = letter.record
        failed = datetime.fromtimestamp(record["failed_at"] / 1e3, UTC)
        table.add_row(
            str(letter.offset),
            f"{failed:%Y-%m-%d %H:%M:%S}",
            escape(f"{record['topic']}[{record['partition']}] at {record['offset']}"),
            escape(record["error_class"]),
            escape(record["field"] or ""),
            escape(record["reason"]),
        )
    errors.print(table)
    if found.older is not None:
        say(f"older letters: --before {found.older}")
    write_report([row(letter) for letter in found.letters], json_path)


@commands.command("show")
def show_one(
    letter: Annotated[int, typer.Argument(min=0, help="its number in the list")],
    json_path: Json = None,
) -> None:
    """Show one letter with its message.

    Example: python -m dashboard dead-letters show 17
    """
    from dashboard.dead_letters.assembly import dead_letters
    from dashboard.dead_letters.words import readable, row

    require_folder(json=json_path)
    found = dead_letters(load_settings()).at(letter)
    if found is None:
        raise ConfigurationError(f"there is no letter {letter}: `dead-letters list` shows them")
    shown = row(found)
    for name, value in shown.items():
        say(f"{name}: {value}")
    key, value = readable(found.record["key"]), readable(found.record["value"])
    say(f"key: {key}\n\n{value}")
    write_report({**shown, "key": key, "value": value}, json_path)


@commands.command("redrive")
def redrive(
    letters: Annotated[
        list[int] | None, typer.Argument(help="numbers; without any, a filter")
    ] = None,
    service: Service = "",
    topic: Topic = "",
    error_class: ErrorClass = "",
    field: Field = "",
    again: Annotated[
        bool, typer.Option("--again", help="also those of the numbers that were sent before")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    json_path: Json = None,
) -> None:
    """Send the messages of letters again, to the topics that they came from; audited.

    With a filter, at most 1,000 go at a time, and none that was sent again before. A transaction
    that was served meanwhile counts only once.

    Example: python -m dashboard dead-letters redrive 17 18

    Example: python -m dashboard dead-letters redrive --topic transactions --field currency --yes
    """
    require_folder(json=json_path)
    if bool(letters) == any((service, topic, error_class, field)):
        raise ConfigurationError(
            "name either letters or a filter: see `dead-letters redrive --help`"
        )
    wanted = _filter(service, topic, error_class, field)
    with _opened() as opened:
        chosen = letters or [letter.offset for letter in opened.matching(wanted)]
        if chosen and not yes:
            typer.confirm(
                f"Send the messages of {len(chosen)} letters again?", abort=True, err=True
            )
        done = opened.send(chosen, by=operator(), again=again)
    say(f"{done.sent} sent again, {done.skipped} sent again before, {len(done.refused)} refused")
    for text in done.refused.values():
        say(text)
    report = {"sent": done.sent, "skipped": done.skipped, "refused": done.refused}
    write_report(report, json_path)
    if done.refused:
        raise ConfigurationError(f"{len(done.refused)} letters could not be sent again, see above")


def _filter(service: str, topic: str, error_class: str, field: str) -> LetterFilter:
    from dashboard.dead_letters.letters import LetterFilter

    prefix = load_settings().topic_prefix
    return LetterFilter(
        service=service,
        topic=prefix + topic if topic else "",
        error_class=error_class,
        field=field,
    )


@contextmanager
def _opened() -> Iterator[Redrive]:
    from dashboard.dead_letters import assembly
    from database.core.opening import open_database

    settings = load_settings()
    with open_database(settings) as database:
        yield assembly.redrive(settings, database, SystemClock())
