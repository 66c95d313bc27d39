"""The verbs of schedules: `schedule`, `serve`, `deploy`, `trend`. What each does is in the files of `flows/schedule/`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli import completing
from flows.cli.app import App, app
from flows.cli.options import DATABASE, MOST, Asked, DatabaseOption, JsonOption, describes_runs

schedules = App(help="Evaluations that come again: add, look at, pause.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(schedules, name="schedule")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@schedules.callback()
def schedule() -> None:
    """Evaluations that come again: add, look at, pause. `ponderosa serve` runs them."""


@schedules.command()
@describes_runs()
def add(
    asked: Asked,
    name: NameArgument,
    cron: Annotated[str, typer.Option(help="Five fields, such as '0 2 * * 1-5', or @daily.", show_default=False)] = "",
    every: Annotated[str, typer.Option(help="Or an interval: 30m, 6h, 1d.", show_default=False)] = "",
    zone: Annotated[str, typer.Option(help="Whose hours the cron string is in: Europe/Berlin.")] = "UTC",
    like: Annotated[
        str,
        typer.Option(
            help="What this stored run (id, name, 'latest') did, in place of the flags of a run.",
            show_default=False,
            autocompletion=completing.runs,
        ),
    ] = "",
    seeds: Annotated[str, typer.Option(help="'same' in every slot, or each 'slot' one of its own.")] = "same",
    catch_up: Annotated[str, typer.Option(help="Of slots that nobody ran: latest, all or none.")] = "latest",
    overlap: Annotated[str, typer.Option(help="Of a slot that comes while the one before is open: skip or queue.")] = "skip",
    bar: Annotated[float | None, typer.Option(help="Accuracy below which an alarm is raised: 0.6.")] = None,
    bar_by: Annotated[str, typer.Option(help="What must be below it: 'point', or the interval's 'upper' end.")] = "point",
    hook: Annotated[str, typer.Option(help="Command that is run on an alarm, facts in PONDEROSA_*.", show_default=False)] = "",
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Add a schedule: what `ponderosa run` with the same flags or file does, again and again.

    Nothing runs before `ponderosa serve` (or a deployment) does.
    """
    from flows.schedule import editing

    policies = editing.Policies(seeds, catch_up, overlap, bar, bar_by, hook)
    editing.add(database, name, editing.Rule(cron, every, zone), editing.Source(like, asked), policies, json)


@schedules.command("list")
def list_(json: JsonOption = False, database: DatabaseOption = DATABASE) -> None:
    """All schedules: when they are due next, and how their last slot ended."""
    from flows.schedule import showing

    showing.listed(database, json)


@schedules.command()
def show(
    name: NameArgument,
    limit: Annotated[int, typer.Option(help="Slots at most.", min=1, max=MOST)] = 20,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """One schedule: its rule, its policies, the next slots and the last ones."""
    from flows.schedule import showing

    showing.shown(database, name, limit, json)


@schedules.command()
def remove(name: NameArgument, json: JsonOption = False, database: DatabaseOption = DATABASE) -> None:
    """Remove a schedule and the record of its slots; its runs stay. To keep its trend, pause it instead."""
    from flows.schedule import editing

    editing.remove(database, name, json)


@schedules.command()
def pause(name: NameArgument, json: JsonOption = False, database: DatabaseOption = DATABASE) -> None:
    """Begin no more slots of a schedule. One that is under way is finished."""
    from flows.schedule import editing

    editing.set_status(database, name, "paused", json)


@schedules.command()
def resume(name: NameArgument, json: JsonOption = False, database: DatabaseOption = DATABASE) -> None:
    """Go on with a schedule, from now: what came during the pause is not caught up."""
    from flows.schedule import editing

    editing.set_status(database, name, "active", json)


@schedules.command()
def now(name: NameArgument, json: JsonOption = False, database: DatabaseOption = DATABASE) -> None:
    """Queue a slot now, beside those of the rule: whoever serves the schedule runs it."""
    from flows.schedule import editing

    editing.now(database, name, json)


@app.command()
def serve(
    once: Annotated[bool, typer.Option("--once", help="Run what is due, and end: for system cron.")] = False,
    only: Annotated[str, typer.Option(metavar="NAME", help="Serve this schedule alone.", show_default=False)] = "",
    at_once: Annotated[int, typer.Option(help="Slots of different schedules at the same time.", min=1)] = 1,
    prefect: Annotated[bool, typer.Option("--prefect", help="Run each slot as a Prefect flow.")] = False,
    hooks: Annotated[bool, typer.Option(help="Run the schedules' hook commands.")] = True,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Run the slots of all schedules as they become due, until it is stopped.

    Several may serve one database: a slot is run by one of them, and taken over where that one dies. Exit code with --once: 1
    where a slot has failed or its run is below the schedule's bar, 65 where a schedule cannot be read, 75 where one is to be
    tried again.
    """
    from flows.schedule import serving

    raise typer.Exit(serving.run(database, once, only, at_once, not prefect, hooks, json))


@app.command()
def deploy(
    name: NameArgument,
    pool: Annotated[str, typer.Option(help="Work pool of type process; made where it is not there.")] = "ponderosa",
    window: Annotated[int, typer.Option(help="Seconds without a heartbeat after which a flow run is Crashed.", min=90)] = 120,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Register a schedule as a deployment of a Prefect server (PREFECT_API_URL), for workers of a process work pool."""
    from flows.schedule import deploying

    deploying.run(database, name, pool, window, json)


@app.command()
def trend(
    name: NameArgument,
    bar: Annotated[float | None, typer.Option(help="Accuracy; the schedule's own where it is left out.")] = None,
    last: Annotated[int | None, typer.Option(help="The last so many runs; all.", min=1, max=MOST)] = None,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """The runs of a schedule: accuracy, costs, and the paired difference from the first and from the one before.

    Exit code 1 where the latest run is below the bar, or the latest slot has failed.
    """
    from flows.schedule import showing

    raise typer.Exit(showing.trend(database, name, bar, last, json))


__all__ = ["app", "deploy", "serve", "trend"]
