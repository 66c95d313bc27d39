"""The verbs that bring in and check: import, audit, doctor."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.opened import stored
from flows.cli.options import (
    DATABASE,
    FOLDER,
    DatabaseOption,
    JsonOption,
)


@app.command("import")
def import_(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, or a folder of them.")],
    format: Annotated[
        str, typer.Option(help="ponderosa, search-and-learn, rebase, openr, monkeys or lm-eval.", show_default=False)
    ],
    name: Annotated[str, typer.Option(help="A name to find the run by.")] = "",
    grade: Annotated[bool, typer.Option(help="Grade what was chosen, and compare the file's verdicts.")] = True,
    join: Annotated[str, typer.Option(help="How steps' scores become one: last, min, prod, mean; else the format's.")] = "",
    style: Annotated[str, typer.Option(help="Of the answers: math, generic, gsm8k, aime, word, guess, countdown.")] = "math",
    tokenizer: Annotated[
        str, typer.Option(help="Count the tokens of texts without a count: 'bundled', or a folder with a tokenizer.json.")
    ] = "",
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Bring in candidates that were written elsewhere, as a run. The same files again change nothing."""
    from flows import imports, records, tables
    from store.runs import find_run

    if os.path.dirname(database) == FOLDER:
        os.makedirs(FOLDER, exist_ok=True)
    run_id, lines = imports.run(database, files, format, name, grade, join, style, tokenizer)
    if json:
        with stored(database) as opened:
            records.tell({**records.of_run(opened, find_run(opened, run_id)), "said": lines})
        return
    for line in lines:
        typer.echo(line)
    typer.echo(f"\nrun       {run_id}")
    tables.hints(run_id, database)


@app.command()
def audit(
    wanted: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Id, name or 'latest'; all runs where it is left out.")
    ] = None,
    replay: Annotated[
        str, typer.Option(help="Searches of each run to replay from their journals: a number, or 'all'.")
    ] = "200",
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Check that nothing is lost and nothing is counted twice. Exit code 1 where something is wrong."""
    from flows import audit as auditing

    if replay != "all" and not replay.isdigit():
        raise ValueError(f"--replay must be a number or 'all', not '{replay}'")
    with stored(database) as opened:
        raise typer.Exit(auditing.run(opened, wanted, None if replay == "all" else int(replay), json))


@app.command()
def doctor(
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """What could keep it from working here: versions, database, disk, sandbox, devices, Prefect, models."""
    from flows import doctor as examining

    raise typer.Exit(examining.run(database, json))
