"""Prefect flows: an evaluation of one RunSpec, and a sweep over several.

Thin and coarse: a task is a shard of problems, ids go in and counts come out, and the models stay warm in the process.
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
from contextlib import suppress
from typing import Any

from prefect import State, flow, states, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import CancelledRun

from flows import cluster as cluster_of
from flows import work
from flows.cancelling import page_watched
from flows.progress import said, shown
from search.types import RunSpec
from store.database import open_database, public
from store.errors import Cancelled, StoreError
from store.leases import Held
from store.queries import summary
from store.queue import begin, called_off, cancel
from store.runs import SHARD


def located(database: str) -> str:
    """The database's place. Prefect stores and shows what a flow is called with, so a URL with a password is not among it: what
    is, says where to look."""
    secret = os.environ.get("PONDEROSA_DATABASE", "")
    return secret if "://" in secret and public(secret) == database else database


@task(name="plan", cache_policy=NO_CACHE)
def plan(spec_json: str, database: str, name: str, shard: int = SHARD) -> int:
    """Writes the run's attempts; how many are still to be done."""
    with open_database(located(database)) as opened:
        return sum(not a.closed for a in work.plan(opened, RunSpec.from_json(spec_json), name, shard))


@task(name="solve shard", cache_policy=NO_CACHE)
def solve_shard(spec_json: str, database: str, shard: int, title: str, show: bool) -> int | str | State[Any]:
    """Solves one shard; how many of the run's problems are done after it, or who else has the shard."""
    spec = RunSpec.from_json(spec_json)
    with open_database(located(database)) as opened, shown(title, show) as watch:
        try:
            found = work.work_shard(opened, spec, shard, watch, work.started(opened, spec.id))
        except Cancelled as off:
            return states.Cancelled(message=str(off))
        return found.owner if isinstance(found, Held) else found.done


def call_off(_: object, flow_run: Any, __: object) -> None:
    """What Prefect's worker calls when it has ended a flow run that was cancelled on the page: others may work on the run."""
    asked = flow_run.parameters
    with suppress(StoreError), open_database(located(asked["database"]), create=False) as opened:
        cancel(opened, RunSpec.from_json(asked["spec_json"]).id)


@flow(name="evaluate", flow_run_name="{name}", on_cancellation=[call_off])
def evaluate(
    spec_json: str,
    database: str,
    name: str = "",
    show: bool = False,
    planned_before: bool = False,
    cluster: str = "",
    shard: int = SHARD,
) -> str | State[Any]:
    """One run: plan, solve shard by shard, close. Returns the run's id. Running the same spec again does what is missing.
    Cancelled on Prefect's page, or by `ponderosa cancel`, it ends as cancelled, and so does every other process at the run."""
    try:
        return _evaluated(spec_json, database, name, show, planned_before, cluster, shard)
    except (Cancelled, CancelledRun):
        return states.Cancelled(message=str(called_off(RunSpec.from_json(spec_json).id)))


def _evaluated(spec_json: str, database: str, name: str, show: bool, planned_before: bool, cluster: str, shard: int) -> str:
    spec = RunSpec.from_json(spec_json)
    if not planned_before:
        plan(spec_json, database, name, shard)
    with open_database(located(database)) as opened, page_watched(opened, spec.id):
        begin(opened, spec.id)
        work.join(opened, spec, said)
        title = name or str(spec.strategy)

        def solve(shard: int) -> object:
            return _found(spec.id, shard, solve_shard(spec_json, database, shard, title, show))

        def spread(shards: Sequence[int]) -> list[object]:
            asked = [{"spec_json": spec_json, "database": database, "shard": s, "title": title, "show": False} for s in shards]
            done = cluster_of.spread(cluster, solve_shard, asked, opened, spec.id, title if show else "")
            return [_found(spec.id, shard, each) for shard, each in zip(shards, done, strict=True)]

        with work.closing(opened, spec.id):
            work.through(opened, spec.id, solve, said, spread if cluster else None)
        found = summary(opened, spec.id)
    create_table_artifact(
        key=f"run-{spec.id}",
        table=[{"run": spec.id, "strategy": str(spec.strategy), "accuracy": found.accuracy, "problems": found.problems}],
        description=f"{spec.strategy} on {spec.problems}",
    )
    return spec.id


def _found(run_id: str, shard: int, done: object) -> object:
    return Held(f"{run_id}/{shard}", done, 0.0) if isinstance(done, str) else done


@flow(name="sweep")
def sweep(
    spec_jsons: Sequence[str],
    database: str,
    names: Sequence[str],
    show: bool = False,
    cluster: str = "",
    shard: int = SHARD,
) -> list[str]:
    """Several runs over the same models, one after another, each a flow run of its own."""
    how: dict[str, Any] = {"show": show, "cluster": cluster, "shard": shard}
    runs = [evaluate(spec_json, database, name, **how) for spec_json, name in zip(spec_jsons, names, strict=True)]
    return [str(run) for run in runs]
