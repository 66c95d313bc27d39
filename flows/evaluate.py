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
from contextlib import ExitStack, suppress
from functools import partial
from typing import Annotated, Any

from prefect import Flow, State, flow, states, task
from prefect.artifacts import create_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import FlowRun
from prefect.exceptions import CancelledRun
from pydantic import Field

from flows import cluster as cluster_of
from flows import page, stretch, work
from flows.ahead import done_ahead, hand_over, is_ahead
from flows.cancelling import page_watched
from flows.parameters import Grid, RunParameters
from flows.progress import said, shown
from search.types import RunSpec
from store import queue
from store.database import Database, open_database, public
from store.errors import Cancelled, StoreError
from store.leases import Held
from store.runs import SHARD, close_run, find_run, named_by

DATABASE = os.path.join(".ponderosa", "ponderosa.db")
DatabasePlace = Annotated[
    str, Field(description="a file, or a URL without its password: the whole URL is in the worker's PONDEROSA_DATABASE")
]
Share = Annotated[bool, Field(description="take samples that another run has stored instead of generating them again")]
Shown = Annotated[bool, Field(description="progress on the standard error of the process")]
Cluster = Annotated[str, Field(description="spread the shards over a Dask cluster: local:PROCESSES or HOST:PORT; empty = none")]
Shard = Annotated[int, Field(ge=1, description="problems that are leased at a time")]


def located(database: str) -> str:
    """The database's place. Prefect stores and shows what a flow is called with, so a URL with a password is not among it: what
    is, says where to look."""
    secret = os.environ.get("PONDEROSA_DATABASE", "")
    return secret if "://" in secret and public(secret) == database else database


@task(name="solve", task_run_name="{title}", cache_policy=NO_CACHE)
def solve(runs: list[str], title: str, database: str, share: bool, show: bool, progress: str) -> int:
    """Works on the first of the runs, and on the next ones where it is short; how many problems it ended. What was begun while
    Prefect started is waited for, and counted here."""
    with open_database(located(database)) as opened, page.Reporter(opened, runs, progress) as reporter:
        ahead = done_ahead(runs[:1])
        showing = partial(_showing, reporter, show)
        done = stretch.stretch(opened, stretch.left(opened, runs), showing, share, say=said)
        if len(done.runs) > 1:
            page.rename_task(" + ".join(page.title(find_run(opened, each)) for each in done.runs))
        return ahead + done.problems


def _showing(reporter: page.Reporter, show: bool, name: str, run_id: str) -> page.Both:
    return page.Both(shown(name, show, run_id), reporter)


@task(name="solve shards", cache_policy=NO_CACHE)
def solve_shards(run_id: str, database: str, shards: list[int], share: bool) -> int:
    """Some shards of a run, in a process of a cluster, as many as a minute has room for; how many problems were ended. 0 where
    other processes have them."""
    with open_database(located(database)) as opened:
        spec = find_run(opened, run_id).spec
        stretch.join_once(opened, spec, said)
        found = work.work_extent(opened, spec, shards, share=share)
        return 0 if isinstance(found, Held) else found.done - found.before


def call_off(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """What Prefect's worker calls when it has ended a flow run that was cancelled on the page: others may work on its runs."""
    asked = flow_run.parameters
    runs = [RunParameters.model_validate(each) for each in asked.get("runs") or [asked["spec"]]]
    for each in Grid.model_validate(asked.get("grid") or {}).of(runs):
        with suppress(StoreError), open_database(located(asked.get("database", DATABASE)), create=False) as opened:
            queue.cancel(opened, each.spec().id)


@flow(name="evaluate", flow_run_name=page.name_of_run, on_cancellation=[call_off])
def evaluate(
    spec: RunParameters,
    database: DatabasePlace = DATABASE,
    name: Annotated[str, Field(description="a name to find the run by")] = "",
    show: Shown = False,
    planned_before: Annotated[
        bool, Field(description="the run is in the database: go on with it, whatever became of its set")
    ] = False,
    share: Share = False,
    cluster: Cluster = "",
    shard: Shard = SHARD,
) -> str | State[Any]:
    """One run: plan, solve stretch by stretch, close, report. Returns the run's id. The same run again does what is missing.
    Cancelled on this page, or by `ponderosa cancel`, it ends as cancelled, and so does every other process at the run."""
    asked = spec.spec()
    try:
        with open_database(located(database)) as opened:
            names = [name or str(asked.strategy)]
            _run_all(opened, [asked], names, database, share, show, planned_before, cluster, shard)
    except (Cancelled, CancelledRun):
        return states.Cancelled(message=str(queue.called_off(asked.id)))
    return asked.id


@flow(name="sweep", flow_run_name=page.name_of_sweep, on_cancellation=[call_off])
def sweep(
    runs: Annotated[list[RunParameters], Field(min_length=1, description="the runs")],
    database: DatabasePlace = DATABASE,
    names: Annotated[list[str], Field(description="a name for each run of the whole grid; none = what tells them apart")] = [],  # noqa: B006
    show: Shown = False,
    grid: Annotated[Grid, Field(description="each of the runs at each of these points")] = Grid.model_validate({}),
    share: Share = True,
    cluster: Cluster = "",
    shard: Shard = SHARD,
) -> list[str] | State[Any]:
    """Several runs over the same models, one after another, with what they have in common generated once. Returns their ids.
    Cancelled on this page, all of its runs are."""
    specs = [each.spec() for each in grid.of(runs)]
    if names and len(names) != len(specs):
        raise ValueError(f"{len(names)} names were given for {len(specs)} runs; give one for each, or none")
    try:
        with open_database(located(database)) as opened:
            named = names or [named_by(spec) for spec in specs]
            _run_all(opened, specs, named, database, share, show, False, cluster, shard)
    except (Cancelled, CancelledRun):
        return states.Cancelled(message=str(queue.called_off(specs[0].id)))
    return [spec.id for spec in specs]


def _run_all(
    opened: Database,
    specs: Sequence[RunSpec],
    names: Sequence[str],
    database: str,
    share: bool,
    show: bool,
    planned: bool,
    cluster: str,
    shard: int,
) -> None:
    """Plans the runs, has tasks work on them until nothing is left, and shows what came out. Raises Cancelled where all that
    had something left are called off."""
    for spec, name in zip(specs, names, strict=True):
        hand_over(spec.id)
        if not planned:
            work.plan(opened, spec, name, shard)
        queue.begin(opened, spec.id)
    page.tag_flow(specs)
    ids = list(dict.fromkeys(spec.id for spec in stretch.biggest_first(specs, share)))
    progress = create_progress_artifact(progress=100 * stretch.overall(opened, ids).share, description=page.about(specs))
    with ExitStack() as stack:
        stack.enter_context(page_watched(opened, *ids))
        stack.enter_context(stretch.closing_all(opened, ids))
        if cluster:
            _spread(opened, ids, database, share, show, cluster)
        else:
            _solve_all(opened, ids, database, share, show, str(progress))
        for each in ids:
            queue.refuse_cancelled(opened, each)
    page.publish(opened, list(dict.fromkeys(spec.id for spec in specs)), str(progress))


def _solve_all(opened: Database, ids: Sequence[str], database: str, share: bool, show: bool, progress: str) -> None:
    """A task for each stretch, in this process."""
    waited: set[str] = set()
    if is_ahead(ids[0]):
        solve(list(ids), page.title(find_run(opened, ids[0])), database, share, show, progress)
    while todo := stretch.left(opened, ids):
        if free := stretch.wait_for_others(opened, todo, said, waited):
            solve(free, page.title(find_run(opened, free[0])), database, share, show, progress)
    for each in ids:  # what was all done ahead of its flow, or by others
        close_run(opened, each)


def _spread(opened: Database, ids: Sequence[str], database: str, share: bool, show: bool, cluster: str) -> None:
    """Tasks of several shards, in the processes of a cluster."""
    for run_id in ids:
        title = page.title(find_run(opened, run_id)) if show else ""
        asked = {"run_id": run_id, "database": database, "share": share}

        def spread(free: list[int], asked: dict[str, Any] = asked, title: str = title) -> None:
            cluster_of.spread(cluster, solve_shards, asked, free, opened, title)

        with work.closing(opened, run_id):
            work.join(opened, find_run(opened, run_id).spec, said)
            work.through(opened, run_id, spread, said)


__all__ = ["DATABASE", "evaluate", "located", "solve", "sweep"]
