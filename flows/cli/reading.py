"""The verbs that read what is stored or built in: show, runs, candidates, reselect, compare, models, strategies."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.opened import stored
from flows.cli.options import (
    DATABASE,
    MOST,
    DatabaseOption,
    JsonOption,
    RunArgument,
)


@app.command()
def show(
    wanted: RunArgument = "latest",
    problem: Annotated[str | None, typer.Option(help="Show this problem's search tree.")] = None,
    spec: Annotated[bool, typer.Option("--spec", help="Print the spec file that repeats it, for `run -f`.")] = False,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """A run: what it was, what came out, what it cost, and what other selectors would have chosen."""
    from flows import tables

    if spec and problem is not None:
        raise ValueError("--spec is of the whole run, and --problem of one problem; give one of them")
    with stored(database) as opened:
        tables.show_file(opened, wanted, json) if spec else tables.show_run(opened, wanted, problem, json)


@app.command()
def runs(json: JsonOption = False, database: DatabaseOption = DATABASE) -> None:
    """All runs, the newest first."""
    from flows import tables

    with stored(database) as opened:
        tables.list_all(opened, json)


@app.command()
def candidates(
    wanted: RunArgument = "latest",
    problem: Annotated[str | None, typer.Option(help="Only this problem's.")] = None,
    state: Annotated[str | None, typer.Option(help="Live, pruned, merged, finished, cancelled, failed or aside.")] = None,
    limit: Annotated[int, typer.Option(help="Rows at most.", min=1, max=MOST)] = 50,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """The candidates of a run, pruned ones too."""
    from flows import tables

    with stored(database) as opened:
        tables.list_candidates(opened, wanted, problem, state, limit, json)


@app.command()
def reselect(
    wanted: RunArgument = "latest",
    selector: Annotated[list[str], typer.Option(help="NAME or NAME:KEY=VALUE,...; repeat. All that the data allow.")] = [],  # noqa: B006
    join: Annotated[str | None, typer.Option(help="last, min, prod or mean: read the scores of steps so.")] = None,
    n: Annotated[str | None, typer.Option("--n", help="Sizes of subsets: 1,2,4 or 'all'. Powers of two.")] = None,
    budget: Annotated[list[str], typer.Option(help="Tokens: the first solutions that fit; repeat for each.")] = [],  # noqa: B006
    resamples: Annotated[int, typer.Option(help="Random subsets, where all are too many.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the subsets and of the intervals.", min=0)] = 0,
    verifier: Annotated[str | None, typer.Option(help="Whose scores; or a signal: entropy, confidence:group=tail.")] = None,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """What any selector would have chosen from fewer of a run's candidates, with no generation."""
    from flows import reselect as reselecting

    with stored(database) as opened:
        reselecting.run(opened, wanted, selector, join, n, budget, resamples, seed, verifier, json)


@app.command()
def compare(
    wanted: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Runs; RUN+RUN are seeds of one, averaged.")],
    cost: Annotated[str, typer.Option(help="What equal cost is in: tokens, sequential, passes, flops, seconds.")] = "tokens",
    intersect: Annotated[bool, typer.Option("--intersect", help="Compare over the problems that all have.")] = False,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap over problems.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and of the subsets.", min=0)] = 0,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Runs over the same problems: paired differences with intervals and tests, cost ratios, and accuracy at equal cost."""
    from flows import compare as comparing

    with stored(database) as opened:
        comparing.run(opened, wanted, cost, intersect, resamples, seed, json)


@app.command()
def models(json: JsonOption = False) -> None:
    """The bundled models and their measured figures."""
    from flows import tables

    tables.list_models(json)


@app.command()
def strategies(json: JsonOption = False) -> None:
    """Strategies, selectors and verifiers with their parameters."""
    from flows import tables

    tables.list_strategies(json)
