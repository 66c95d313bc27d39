"""Starts evaluations: as a Prefect flow, or in plain Python with the same result."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from flows import hurry, records, server, work
from flows.ahead import Ahead
from flows.cli import FOLDER
from flows.cluster import check_cluster
from flows.progress import board, said, shown
from flows.stretch import biggest_first
from search.types import RunSpec
from store import queue
from store.database import Database, open_database, public
from store.errors import Cancelled, Unavailable
from store.imported import is_imported
from store.runs import SHARD, Run, find_run, retry


def launch(
    specs: Sequence[RunSpec],
    names: Sequence[str],
    database: str,
    plain: bool = False,
    cluster: str = "",
    shard: int = SHARD,
    share: bool = False,
) -> list[str]:
    """Runs the specs one after another; their ids. All are checked before the first one starts. `cluster` spreads the shards,
    each of so many problems. With `share`, what one of them, or another stored run, has generated is not generated again."""
    _prepared(specs, database)
    if cluster:
        check_cluster(cluster, plain)
    named = {spec.id: name for spec, name in reversed([*zip(specs, names, strict=True)])}
    ordered = biggest_first(specs, share)
    with board(len(specs)):
        if plain:
            for spec in ordered:
                _plain(spec, named[spec.id], database, shard, share)
            return [spec.id for spec in specs]
        first = ordered[0]
        ahead = None if cluster else Ahead(first, named[first.id], database, size=shard, share=share)
        with _prefect(ahead) as flows, _cancellable():
            from flows.parameters import RunParameters

            parameters, where = [RunParameters.model_validate(spec) for spec in specs], _without_password(database)
            how: dict[str, Any] = {"show": True, "cluster": cluster, "shard": shard, "share": share}
            if len(specs) == 1:
                flows.evaluate(parameters[0], where, names[0], **how)
            else:
                flows.sweep(parameters, where, list(names), **how)
    return [spec.id for spec in specs]


def submit(specs: Sequence[RunSpec], names: Sequence[str], database: str, shard: int = SHARD, json: bool = False) -> list[str]:
    """Plans the specs for workers to do; their ids."""
    _prepared(specs, database)
    with open_database(database) as opened:
        for spec, name in zip(specs, names, strict=True):
            _tell_queued(spec.id, name, work.submit(opened, spec, name, shard), json)
    return [spec.id for spec in specs]


def _tell_queued(run_id: str, name: str, left: bool, json: bool) -> None:
    if json:
        records.tell({"run": run_id, "name": name, "status": "queued" if left else "done"})
    said(f"run {run_id} {'waits for a worker: `ponderosa worker`' if left else 'is done: nothing is left of it'}")


def _prepared(specs: Sequence[RunSpec], database: str) -> None:
    """Checks everything that can be checked before anything is loaded."""
    for spec in specs:
        work.check(spec)
    if os.path.dirname(database) == FOLDER:
        os.makedirs(FOLDER, exist_ok=True)
    open_database(database).close()  # a bad database is said before anything is loaded


@contextmanager
def _cancellable() -> Iterator[None]:
    """A flow that was cancelled is one line, as a plain run is."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ == "CancelledRun":
            raise Cancelled(str(error)) from None
        raise


def resume(wanted: str, database: str, restart: bool = False, retry_failed: bool = False, plain: bool = False) -> str:
    """Goes on with a run that is in the database; its problem set need not be there any more. The run's id."""
    with open_database(database, create=False) as opened:
        run = _resumed(opened, wanted, restart, retry_failed)
        if plain:
            with shown(run.name or run.id, key=run.id) as watch:
                work.resume(opened, run.spec, watch, said)
            return run.id
    name = run.name or run.id
    with board(), _prefect(Ahead(run.spec, name, database, planned_before=True)) as flows, _cancellable():
        from flows.parameters import RunParameters

        asked = RunParameters.model_validate(run.spec)
        flows.evaluate(asked, _without_password(database), name, show=True, planned_before=True)
    return run.id


def resubmit(wanted: str, database: str, restart: bool = False, retry_failed: bool = False, json: bool = False) -> None:
    """Leaves what a run has not done yet to workers."""
    with open_database(database, create=False) as opened:
        run = _resumed(opened, wanted, restart, retry_failed)
        _tell_queued(run.id, run.name, queue.enqueue(opened, run.id), json)


def _resumed(opened: Database, wanted: str, restart: bool, retry_failed: bool) -> Run:
    """The run that is to be gone on with, opened for that. ValueError for one that cannot be."""
    run = find_run(opened, wanted)
    if is_imported(run.spec):
        left = "an import that was cut off goes on by its own command" if run.status != "done" else "all of it is there"
        raise ValueError(f"run '{run.id}' was imported, and has nothing to resume: {left}")
    work.check(run.spec, problems=False)
    if retry_failed:
        said(f"{retry(opened, run.id) or 'no'} failed problems are opened again")
    if restart:
        work.begin_again(opened, run.id)
    return run


@contextmanager
def _prefect(ahead: Ahead | None) -> Iterator[ModuleType]:
    """Our flows, imported while the work has begun. Where Prefect does not come up, what was answered is stored, and that is
    said in one line."""
    if ahead is not None:
        ahead.start()
    try:
        if ahead is not None:
            ahead.await_token()
        from flows import evaluate

        _quiet()
        server.apart()
        yield evaluate
    except BaseException as error:
        if hurry.heard() or not isinstance(error, Exception):  # a signal
            if ahead is not None:
                ahead.stop()
                ahead.close()
            raise
        if (said := _away(error)) is None:
            raise
        raise Unavailable(said) from error
    finally:
        if ahead is not None:
            ahead.stop()


def _away(error: Exception) -> str | None:
    """What to say where it is Prefect's server that failed; None for any other error."""
    text = str(error)
    if "ephemeral Prefect API server" not in text and "Failed to reach API" not in text and type(error).__module__ != "httpx":
        return None
    server = os.environ.get("PREFECT_API_URL")
    what = f"the server at PREFECT_API_URL={public(server)}" if server else "Prefect's temporary server"
    return f"{what} did not answer; what was done is stored: the same command goes on, with --plain without Prefect"


def _without_password(database: str) -> str:
    """What Prefect may show of the place; the flows find the whole in the environment."""
    os.environ["PONDEROSA_DATABASE"] = database
    return public(database)


def _plain(spec: RunSpec, name: str, database: str, shard: int, share: bool) -> str:
    with open_database(database) as opened, shown(name, key=spec.id) as watch:
        return work.evaluate(opened, spec, name, watch, said, shard, share)


def _quiet() -> None:
    """Prefect's own start-up messages are not the user's concern."""
    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        # what ends a flow is raised, and said once, by the command
        logging.getLogger(name).addFilter(_unsaid)
    warnings.filterwarnings("ignore", module="prefect")


def _unsaid(record: logging.LogRecord) -> bool:
    told = ("Crash", "Encountered an exception during execution", "Finished in state Failed")
    return bool(os.environ.get("PONDEROSA_DEBUG")) or not any(each in record.getMessage() for each in told)
