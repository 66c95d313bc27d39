"""The verbs that make something new of what is stored: rescore, report, view, retrain."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli import completing
from flows.cli.app import app
from flows.cli.asking import RunsArgument
from flows.cli.opened import stored
from flows.cli.options import DATABASE, DatabaseOption, JsonOption, RunArgument


@app.command()
def rescore(
    wanted: RunArgument = "latest",
    verifier: Annotated[
        str | None,
        typer.Option(help="NAME or NAME:KEY=VALUE,...: scores every whole solution.", autocompletion=completing.verifiers),
    ] = None,
    grader: Annotated[str | None, typer.Option(help="exact, integer, math, choice, ...: judges every answer.")] = None,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """A new verifier or grader over a run's stored candidates; what it says stands beside what the run has."""
    from flows import later

    with stored(database) as opened:
        later.rescore(opened, wanted, verifier, grader, json)


@app.command()
def report(
    wanted: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Runs, or all; later ones are compared with the first.", autocompletion=completing.runs
        ),
    ],
    file: Annotated[str, typer.Option("--output", "-o", help="An .html file, or .md for the summary alone.")] = "",
    plots: Annotated[str, typer.Option(help="A folder for the charts, as SVG and PNG.")] = "",
    resamples: Annotated[int, typer.Option(help="Of the summary's bootstrap over problems.", min=1)] = 10_000,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is no report.")] = False,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """One self-contained page of runs: accuracy against cost, calibration, where answers were lost, search trees."""
    from flows import later

    with stored(database) as opened:
        later.report(opened, wanted, file, plots, force, resamples, json)


@app.command()
def view(
    wanted: RunsArgument = ["latest"],  # noqa: B006
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; 0 = a free one.", min=0, max=65535)] = 8799,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """The same page from the database as it is now, on this machine alone; it follows runs that go on."""
    from flows import later

    with stored(database) as opened:
        later.view(opened, wanted, port, json)


@app.command()
def retrain(
    folder: Annotated[str, typer.Argument(help="Where the model is written; it must not be there.")],
    wanted: Annotated[list[str], typer.Option("--run", help="A run whose candidates it learns from; repeat.")] = ["latest"],  # noqa: B006
    tokens: Annotated[int, typer.Option(help="To train on.")] = 600_000,
    held_out: Annotated[float, typer.Option(help="Share of the problems that it is measured on.")] = 0.25,
    labels: Annotated[str, typer.Option(help="exact (of each step), outcome (how it ended), or auto.")] = "auto",
    init: Annotated[str, typer.Option(help="The reward model to go on from.")] = "bundled",
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """A reward model that learns from stored candidates, measured before and after on problems held out."""
    from flows import later

    with stored(database) as opened:
        asked = {"folder": folder, "runs": wanted, "tokens": tokens, "held_out": held_out, "labels": labels, "init": init}
        later.retrain(opened, {**asked, "seed": seed}, json)
