"""Command line of the dashboard: `python -m dashboard`."""

from __future__ import annotations

import typer

from dashboard import people_command
from dashboard.dead_letters import command as dead_letters_command
from runtime.command_line import run_command
from runtime.settings import load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.add_typer(people_command.commands, name="people")
app.add_typer(dead_letters_command.commands, name="dead-letters")


@app.command("run")
def run_dashboard() -> None:
    """Serve the web pages: live figures, review queue, models, audit, people.

    Add the first admin with `python -m dashboard people add`.

    Example: FRAUD_DASHBOARD_PORT=8050 FRAUD_DATABASE_URL=sqlite:///var/fraud.db
    python -m dashboard run
    """
    from dashboard.process import run

    run(load_settings())


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app)


if __name__ == "__main__":
    main()
