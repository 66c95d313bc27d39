"""The demo: several strategies on held-out problems with the bundled models, as one Prefect sweep, and one table a family; all
others on a few problems, in plain Python."""

from __future__ import annotations

import time
from pathlib import Path

from flows import launch, tables
from flows.parts import spec
from flows.sizes import ASTAR, words
from store import queries
from store.database import open_database, public

STRATEGIES = (
    "greedy",
    "best-of-n:n=8,select=majority",
    "best-of-n:n=8,select=weighted",
    "adaptive-consistency:n=8",
    "first-finish:n=8,m=3",
    "beam:n=8,keep=4,select=weighted",
    "dvts:n=8,width=4",
    "rebase:n=8",
    "particles",
    "mcts:k=4,simulations=16",
    ASTAR,
)
SEEDED = ("best-of-n:n=8,select=weighted", ASTAR)  # run with another seed too
OTHERS = [each for each in words() if each not in STRATEGIES]
FEW = 10  # problems that the others are run on
FAMILIES = ("word", "countdown")


def run(problems: int, database: str, plain: bool, json: bool = False) -> None:
    """Runs all strategies on all families and prints the tables."""
    if problems < 1:
        raise ValueError(f"problems must be at least 1, not {problems}")
    began = time.monotonic()
    sets = [f"{family}:split=test,count={problems},seed=1" for family in FAMILIES]
    specs = [spec(one, strategy) for one in sets for strategy in STRATEGIES]
    again = [spec(one, strategy, seed=1) for one in sets for strategy in SEEDED]
    names = [[*STRATEGIES] * len(FAMILIES), [f"{each}, seed 1" for each in SEEDED] * len(FAMILIES)]
    all_ids = launch.launch([*specs, *again], [*names[0], *names[1]], database, plain)
    ids, seeded = all_ids[: len(specs)], all_ids[len(specs) :]
    few = f"{FAMILIES[-1]}:split=test,count={min(FEW, problems)},seed=1"
    # so short that Prefect would take longer than they do
    others = launch.launch([spec(few, strategy) for strategy in OTHERS], OTHERS, database, plain=True)
    wall = time.monotonic() - began
    if json:
        tables.compare(database, [*ids, *seeded, *others], json)
        return
    out = tables.console()
    with open_database(database) as opened:
        for at, family in enumerate(FAMILIES):
            own = ids[at * len(STRATEGIES) : (at + 1) * len(STRATEGIES)]
            own += seeded[at * len(SEEDED) : (at + 1) * len(SEEDED)]
            out.print(tables.comparison(opened, own, f"\n{family}: {problems} held-out problems"))
        title = f"\nthe other strategies, {FAMILIES[-1]}: {min(FEW, problems)} held-out problems, seed 0"
        out.print(tables.comparison(opened, others, title))
        found = [queries.summary(opened, run_id) for run_id in (*all_ids, *others)]
    generating, verifying = (sum(getattr(f, f"{what}_seconds") for f in found) for what in ("generate", "verify"))
    out.print("\n" + tables.LEGEND)
    outside = wall - generating - verifying
    if outside > 0:  # else these runs were done before
        out.print(
            f"{wall:.0f} s in all: {generating:.0f} generating, {verifying:.0f} verifying, "
            f"{outside:.0f} ({outside / wall:.0%}) starting up, Prefect, storing, Python"
        )
    out.print(f"database  {public(database)}")
    from flows.report import written

    with open_database(database) as opened:
        left_out = (
            f"{len(others)} further strategies were run on {min(FEW, problems)} problems of {FAMILIES[-1]} each, too few to "
            "rank them. They are not on this page, but on that of: ponderosa report all -o all.html"
            f"{tables.of_database(database)}"
        )
        made = written.run(opened, [*ids, *seeded], _page(database), force=True, remarks=[left_out])
    out.print(f"report    {made.file}  (open it in a browser)")
    beam = next(i for i, each in enumerate(STRATEGIES) if each.startswith("beam"))
    tables.hints(ids[len(STRATEGIES) + beam], database)


def _page(database: str) -> str:
    """The report's file: beside the database where that is one."""
    return "demo.html" if "://" in database else str(Path(database).with_name("demo.html"))
