"""The verb that writes what is stored for other programs: export."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli import completing
from flows.cli.app import app
from flows.cli.opened import stored
from flows.cli.options import DATABASE, DatabaseOption, JsonOption


@app.command()
def export(
    wanted: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or all.", autocompletion=completing.runs)],
    format: Annotated[str, typer.Option(help="parquet, jsonl, lm-eval, inspect, prm, preferences.")],
    output: Annotated[str, typer.Option("--output", "-o", help="A file or folder, as the format has it; not there yet.")],
    steps: Annotated[bool, typer.Option("--steps", help="jsonl: every candidate too, pruned ones among them.")] = False,
    chosen: Annotated[bool, typer.Option("--chosen", help="inspect: only what each search chose.")] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="prm: the share of right solutions below a step, not whether any.")
    ] = False,
    least: Annotated[int, typer.Option(help="prm, preferences of --level step: whole solutions below a step, at least.")] = 1,
    balance: Annotated[
        bool,
        typer.Option("--balance", help="prm: as many right as wrong rows; preferences: chosen as often longer as shorter."),
    ] = False,
    unpruned: Annotated[bool, typer.Option("--unpruned", help="prm: only rows below which nothing was cut.")] = False,
    level: Annotated[str, typer.Option(help="preferences: pairs of each solution, or step.")] = "solution",
    margin: Annotated[float | None, typer.Option(help="preferences: by which the verifier's scores must differ too.")] = None,
    pairs: Annotated[int, typer.Option(help="preferences: of one problem, at most.")] = 4,
    split: Annotated[str, typer.Option(help="prm, preferences: all problems, or train: no held-out ones.")] = "all",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Write runs for other programs: tables, evaluation logs, data to train on."""
    from flows import export as exporting
    from flows import records

    options = exporting.Options(steps, chosen, soft, least, balance, unpruned, level, margin, pairs, split)
    with stored(database) as opened:
        made = exporting.run(opened, wanted, format, output, options, force)
    if json:
        records.tell(made.told())
        return
    for line in made.lines():
        typer.echo(line)
