"""Command line of the simulation: `python -m simulation`."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from runtime.command_line import Json, errors, require_folder, run_command, say, write_report
from simulation.simulation_plan import SimulationPlan, SimulationScenario

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def simulation() -> None:
    """Play the whole learning loop on a clock of event time."""


@app.command("run")
def run(
    scenario: Annotated[
        SimulationScenario, typer.Option(help="what happens")
    ] = SimulationScenario.NEW_PATTERN,
    days: Annotated[int, typer.Option(min=2, help="days on which models decide")] = 30,
    history_days: Annotated[int, typer.Option(min=20, help="days archived before them")] = 40,
    customers: Annotated[int, typer.Option(min=300, help="people in the world")] = 3_000,
    fraud_factor: Annotated[
        float, typer.Option(min=0.1, help="times as much fraud as ordinarily")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="the same seed gives the same world")] = 7,
    onset_day: Annotated[
        int | None, typer.Option(min=1, help="day of the event; default a third of the days")
    ] = None,
    learning: Annotated[
        bool, typer.Option("--learning/--no-learning", help="retrain and roll back")
    ] = True,
    alone: Annotated[
        bool, typer.Option("--alone", help="not the same run without learning beside it")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--keep", help="new folder for archive, bundles and runs")
    ] = None,
    json_path: Json = None,
) -> None:
    """Run generator, engine, scorer, archive, monitor and trainer through many days in minutes.

    Example: python -m simulation run --scenario new-pattern --days 30 --json pattern.json

    Example: python -m simulation run --scenario bad-model --days 6 --customers 1000
    """
    from simulation import story
    from simulation.runs import simulate

    require_folder(json=json_path)
    plan = SimulationPlan(
        scenario=scenario,
        days=days,
        history_days=history_days,
        customers=customers,
        fraud_factor=fraud_factor,
        seed=seed,
        onset_day=onset_day,
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("day {task.completed:.1f} of {task.total}"),
        TimeElapsedColumn(),
    )
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simulation-")))
        folder.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context((folder / "simulation.log").open("w"))
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(log))
        bar = stack.enter_context(Progress(*columns, console=errors, transient=True))
        task = bar.add_task("world", total=days)
        found = simulate(
            plan,
            folder,
            learning=learning,
            alone=alone,
            progress=lambda part, done: bar.update(task, description=part, completed=done),
        )
    for table in story.tables(found):
        errors.print(table)
    runtime = found["runtime"]["seconds"]
    say(f"{days} days with {found['transactions']:,} transactions in {runtime:.0f} s")
    write_report(found, json_path)


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app)


if __name__ == "__main__":
    main()
