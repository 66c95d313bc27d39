"""The verbs that generate: solve, run, sweep, resume, allocate, demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import completing
from flows.cli.app import app
from flows.cli.options import (
    DATABASE,
    Asked,
    BudgetsOption,
    ClusterOption,
    DatabaseOption,
    DetachOption,
    JsonOption,
    NameOption,
    PlainOption,
    RunArgument,
    SeedsOption,
    ShardOption,
    ShareOption,
    StrategiesOption,
    StrategyOption,
    describes_runs,
)

if TYPE_CHECKING:
    from search.types import RunSpec

SOLVING = "astar:k=1,reopen=0.1,root=0.9"


@app.command()
@describes_runs("problems", strategy=(StrategyOption, SOLVING))
def solve(
    asked: Asked,
    question: Annotated[str, typer.Argument(help="The question, as the generator is to read it.")],
    tree: Annotated[bool, typer.Option("--tree", help="Show the tree that was searched.")] = False,
    json: JsonOption = False,
) -> None:
    """Answer one question, and show what it cost and why that answer won."""
    from flows import grid
    from flows import solve as solving

    usual = {"problems": "question"} if asked.file else {"problems": "question", "strategy": SOLVING}
    specs, _ = grid.asked(asked.file, {**usual, **asked}, asked.settings)
    if len(specs) > 1:
        raise ValueError(f"a question is answered by one run, and '{asked.file}' has {len(specs)}; `sweep` runs several")
    solving.run(question, specs[0], tree=tree, json=json)


@app.command()
@describes_runs()
def run(
    asked: Asked,
    name: NameOption = "",
    plain: PlainOption = False,
    detach: DetachOption = False,
    cluster: ClusterOption = "",
    shard: ShardOption = 8,
    share: ShareOption = False,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Evaluate one strategy on a problem set. The same command again goes on with what is missing.

    A file with several runs is a sweep.
    """
    _evaluate(*_planned(asked, name), database, plain, json, detach, cluster, shard, share)


@app.command()
@describes_runs(strategy=(StrategiesOption, []), budget=(BudgetsOption, []), seed=(SeedsOption, [0]))
def sweep(
    asked: Asked,
    name: NameOption = "",
    plain: PlainOption = False,
    detach: DetachOption = False,
    cluster: ClusterOption = "",
    shard: ShardOption = 8,
    share: ShareOption = True,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Evaluate every strategy at every budget and seed on one problem set."""
    if not asked.file and not asked.get("strategy"):
        raise ValueError("a sweep needs strategies: --strategy NAME for each, or --file FILE with its runs")
    _evaluate(*_planned(asked, name), database, plain, json, detach, cluster, shard, share)


@app.command()
def resume(
    wanted: RunArgument = "latest",
    restart: Annotated[
        bool, typer.Option("--restart", help="Give up what unfinished searches have, and begin them again.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Three more tries for problems that failed.")] = False,
    plain: PlainOption = False,
    detach: DetachOption = False,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Go on with a run that was interrupted: what it has is replayed, and nothing is generated twice.

    Several processes may work on one run; each takes shards of its problems that no other has.
    """
    from flows import launch

    if detach:
        launch.resubmit(wanted, database, restart, retry_failed, json)
        return
    run_id = launch.resume(wanted, database, restart=restart, retry_failed=retry_failed, plain=plain)
    _told([run_id], database, json)


@app.command()
def allocate(
    wanted: RunArgument = "latest",
    n: Annotated[float | None, typer.Option("--n", help="Samples, mean over the problems, the pilot's among them.")] = None,
    budget: Annotated[str | None, typer.Option(help="Or tokens, mean over the problems: 2048, 32k.")] = None,
    by: Annotated[str, typer.Option(help="Difficulty by agreement, entropy, verifier or certainty.")] = "agreement",
    bins: Annotated[int, typer.Option(help="Groups of problems that get the same number.")] = 4,
    most: Annotated[int, typer.Option(help="Samples one problem may have.")] = 64,
    select: Annotated[
        str, typer.Option(help="The selector of the run that follows.", autocompletion=completing.selectors)
    ] = "majority",
    name: NameOption = "",
    dry: Annotated[bool, typer.Option("--dry", help="Show the plan only.")] = False,
    plain: PlainOption = False,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Give hard problems more samples: plan from a cheap run of best-of-n, without its verdicts, and run the plan."""
    from flows import allocate as allocating
    from flows.parts import count

    wish = allocating.Wish(n, None if budget is None else float(count(budget)), by, bins, most)
    ids = allocating.run(database, wanted, wish, select, name, plain, dry, json)
    if ids:
        _told(ids, database, json)


@app.command()
def demo(
    problems: Annotated[int, typer.Option(help="Held-out problems of each family.")] = 60,
    plain: PlainOption = False,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """The main job: several strategies on held-out problems with the bundled models, one table."""
    from flows import demo as showing

    showing.run(problems, database, plain, json)


# ------------------------------------------------------------------------------------------------------------ internals


def _planned(asked: Asked, name: str) -> tuple[list[RunSpec], list[str]]:
    from flows import grid

    return grid.asked(asked.file, {**asked, **({"name": name} if name else {})}, asked.settings)


def _evaluate(
    specs: list[RunSpec],
    names: list[str],
    database: str,
    plain: bool,
    json: bool,
    detach: bool,
    cluster: str,
    shard: int,
    share: bool,
) -> None:
    from flows import launch

    if detach:
        if cluster:
            raise ValueError("--detach leaves the work to workers, and --cluster to a cluster; give one of them")
        launch.submit(specs, names, database, shard, json)
        return
    _told(launch.launch(specs, names, database, plain, cluster, shard, share), database, json)


def _told(ids: list[str], database: str, json: bool) -> None:
    """What came out, on standard output; exit code 1 where problems failed."""
    from flows import tables

    if tables.compare(database, ids, json):
        raise typer.Exit(1)
