"""Prefect flows: an evaluation of one run, and a sweep over several.

Thin and coarse: a task is a minute's worth of problems (`flows.stretch`), ids go in and counts come out, and the models stay
warm in the process. A sweep's runs are tasks of one flow, not flows of their own: each flow run waits a second at its end.
Our own database is the truth for what is done; Prefect's state is for display. Remove the decorators and it still works.
"""

from __future__ import annotations

import os

# before Prefect is imported: its temporary server takes longer than the default 20 s to start on a new machine
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from prefect import flow, task
from prefect.artifacts import create_progress_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows import page, stretch, work
from flows.parameters import Grid, RunParameters
from flows.progress import said, shown
from search.types import RunSpec
from store.database import Database, open_database, public
from store.runs import find_run

DATABASE = os.path.join(".ponderosa", "ponderosa.db")
DatabasePlace = Annotated[
    str, Field(description="a file, or a URL without its password: the whole URL is in the worker's PONDEROSA_DATABASE")
]
Share = Annotated[bool, Field(description="take samples that another run has stored instead of generating them again")]
Shown = Annotated[bool, Field(description="progress on the standard error of the process")]


def located(database: str) -> str:
    """The database's place. Prefect stores and shows what a flow is called with, so a URL with a password is not among it: what
    is, says where to look."""
    secret = os.environ.get("PONDEROSA_DATABASE", "")
    return secret if "://" in secret and public(secret) == database else database


@task(name="solve", task_run_name="{title}", cache_policy=NO_CACHE)
def solve(runs: list[str], title: str, database: str, share: bool, show: bool, progress: str) -> int:
    """Works on the first of the runs, and on the next ones where it is short; how many problems it ended."""
    with open_database(located(database)) as opened, page.Reporter(opened, runs, progress) as reporter:
        showing = partial(_showing, reporter, show)
        done = stretch.stretch(opened, stretch.left(opened, runs), showing, share, say=said)
        if len(done.runs) > 1:
            page.rename_task(" + ".join(page.title(find_run(opened, each)) for each in done.runs))
        return done.problems


def _showing(reporter: page.Reporter, show: bool, name: str) -> page.Both:
    return page.Both(shown(name, show), reporter)


@flow(name="evaluate", flow_run_name=page.name_of_run)
def evaluate(
    spec: RunParameters,
    database: DatabasePlace = DATABASE,
    name: Annotated[str, Field(description="a name to find the run by")] = "",
    show: Shown = False,
    planned_before: Annotated[
        bool, Field(description="the run is in the database: go on with it, whatever became of its set")
    ] = False,
    share: Share = False,
) -> str:
    """One run: plan, solve stretch by stretch, close, report. Returns the run's id. The same run again does what is missing."""
    asked = spec.spec()
    with open_database(located(database)) as opened:
        _run_all(opened, [asked], [name or str(asked.strategy)], database, share, show, planned_before)
    return asked.id


@flow(name="sweep", flow_run_name=page.name_of_sweep)
def sweep(
    runs: Annotated[list[RunParameters], Field(min_length=1, description="the runs")],
    database: DatabasePlace = DATABASE,
    names: Annotated[list[str], Field(description="a name for each run of the whole grid; none = what tells them apart")] = [],  # noqa: B006
    show: Shown = False,
    grid: Annotated[Grid, Field(description="each of the runs at each of these points")] = Grid.model_validate({}),
    share: Share = True,
) -> list[str]:
    """Several runs over the same models, one after another, with what they have in common generated once. Returns their ids."""
    specs = [each.spec() for each in grid.of(runs)]
    if names and len(names) != len(specs):
        raise ValueError(f"{len(names)} names were given for {len(specs)} runs; give one for each, or none")
    with open_database(located(database)) as opened:
        _run_all(opened, specs, names or [page.said_of(spec) for spec in specs], database, share, show)
    return [spec.id for spec in specs]


def _run_all(
    opened: Database,
    specs: Sequence[RunSpec],
    names: Sequence[str],
    database: str,
    share: bool,
    show: bool,
    planned: bool = False,
) -> None:
    """Plans the runs, has tasks work on them until nothing is left, and shows what came out."""
    for spec, name in zip(specs, names, strict=True):
        if not planned:
            work.plan(opened, spec, name)
    page.tag_flow(specs)
    ids = list(dict.fromkeys(spec.id for spec in stretch.biggest_first(specs, share)))
    progress = create_progress_artifact(progress=100 * stretch.overall(opened, ids).share, description=page.about(specs))
    waited: set[str] = set()
    with stretch.closing_all(opened, ids):
        while todo := stretch.left(opened, ids):
            if free := stretch.wait_for_others(opened, todo, said, waited):
                solve(free, page.title(find_run(opened, free[0])), database, share, show, str(progress))
    page.publish(opened, list(dict.fromkeys(spec.id for spec in specs)), str(progress))


__all__ = ["DATABASE", "evaluate", "located", "solve", "sweep"]
