"""The verbs of workers: worker, cancel."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.opened import stored
from flows.cli.options import DATABASE, FOLDER, DatabaseOption, JsonOption, RunArgument


@app.command()
def worker(
    wanted: Annotated[
        list[str] | None, typer.Argument(metavar="RUN...", help="Only these runs; all that are wanted where left out.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:NUMBER: what it takes a slot of.")] = "cpu",
    slots: Annotated[
        int | None, typer.Option(help="Workers that may have the device at once; of the CPU by default its cores.", min=1)
    ] = None,
    until_done: Annotated[bool, typer.Option("--until-done", help="End when nothing is left to do.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait for a slot of the device.")] = True,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Work on the runs of a database, with warm models, until told to stop. Any number of workers share a database.

    `run --detach` gives it something to do. What a person interrupted or cancelled it leaves alone.
    """
    from flows import records
    from flows import worker as working
    from flows.progress import said
    from store.runs import find_run

    if os.path.dirname(database) == FOLDER:
        os.makedirs(FOLDER, exist_ok=True)
    ids: list[str] = []
    if wanted:
        with stored(database) as opened:
            ids = [find_run(opened, each).id for each in wanted]
    if not working.run(database, device, slots, ids, until_done, wait, said, records.tell if json else records.nothing):
        raise typer.Exit(1)


@app.command()
def cancel(
    wanted: RunArgument,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Call a run off, on every machine that works on it. What it has is kept; `resume` goes on with it.

    Exit code 75 where a process is still at it after 10 seconds.
    """
    from flows import cancelling, records
    from flows.progress import said
    from store.runs import find_run

    with stored(database) as opened:
        run_id = find_run(opened, wanted).id
        ended = cancelling.cancel(opened, run_id, said if json else typer.echo)
        if json:
            records.tell({"run": run_id, "cancelled": True, "stopped": ended})
        if not ended:
            raise typer.Exit(75)
