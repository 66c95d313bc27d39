"""Shards of one run spread over a Dask cluster, by Prefect's task runner for Dask: `ponderosa run --cluster local:2`.

The tasks are those of a run without a cluster: ids go in, counts come out, each worker process keeps its models warm in
`flows.work`, and all write to one database with leases. A worker that dies loses nothing: Dask gives its shard to another one.
Needs the extra `dask`, and on several machines a database and a Prefect server that all of them reach.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from flows import hurry, work
from flows.progress import shown
from store import queries, queue
from store.database import Database
from store.errors import StoreError

LOOK = 2.0  # seconds between two looks at how far the run is
PARTS, MOST = 4, 8


def check_cluster(cluster: str, plain: bool = False) -> None:
    """Raises ValueError for a cluster that cannot be."""
    if plain:
        raise ValueError(f"--cluster {cluster} spreads Prefect's tasks; leave --plain out, or start several `ponderosa worker`")
    local = cluster.partition(":")[0] == "local"
    if not re.fullmatch(r"local:0*[1-9]\d*" if local else r"(\w+://)?\S+:\d+/?", cluster):
        raise ValueError(
            f"cluster '{cluster}' must be local:PROCESSES, such as local:2, or an address such as dask://HOST:8786"
        )
    if importlib.util.find_spec("prefect_dask") is None:
        raise ValueError("a cluster needs Prefect's runner for Dask: pip install 'ponderosa[dask]'")


def spread(
    cluster: str, task: Any, asked: dict[str, Any], shards: Sequence[int], database: Database, title: str
) -> list[object]:
    """What the task gives for `asked` with each part of the shards, computed wherever there is room. Where this process is told
    to stop, the run is called off: the cluster's processes would not hear of it otherwise."""
    run_id = asked["run_id"]
    with _reachable_api(), _runner(cluster) as runner, shown(title, bool(title)) as watch:
        try:
            progress, before = work.started(database, run_id), _tokens(database, run_id)
            parts = split(shards, len(runner.client.nthreads()))
            futures = [runner.submit(task, {**asked, "shards": part}) for part in parts]
            for future in futures:
                while not future.state.is_final():
                    future.wait(LOOK)
                    now = work.started(database, run_id)
                    progress.done, progress.right, progress.failed = now.done, now.right, now.failed
                    progress.tokens = _tokens(database, run_id) - before
                    watch(progress)
            return [future.result() for future in futures]
        except BaseException as error:
            if hurry.heard() or not isinstance(error, Exception):
                with suppress(StoreError):
                    queue.cancel(database, run_id)
            raise


def split(shards: Sequence[int], processes: int) -> list[list[int]]:
    """The shards in parts for a task each: PARTS for a process, so that all end at about the same time, of MOST shards each at
    most."""
    size = max(1, min(MOST, math.ceil(len(shards) / (PARTS * max(processes, 1)))))
    return [list(shards[at : at + size]) for at in range(0, len(shards), size)]


def _tokens(database: Database, run_id: str) -> int:
    return sum(row.generated_tokens or 0 for row in queries.attempts(database, run_id))


def _runner(cluster: str) -> Any:
    from prefect_dask import DaskTaskRunner

    for name in ("distributed", "distributed.nanny", "distributed.scheduler", "distributed.core"):
        logging.getLogger(name).setLevel(logging.ERROR)
    kind, _, rest = cluster.partition(":")
    if kind == "local":
        # a process of one thread each: torch has threads of its own, and a search is no I/O
        return DaskTaskRunner(cluster_kwargs={"n_workers": int(rest), "threads_per_worker": 1, "dashboard_address": None})
    return DaskTaskRunner(address=f"tcp:{rest}" if kind == "dask" else cluster)


@contextmanager
def _reachable_api() -> Iterator[None]:
    """The cluster's processes report to the server that this one uses: its temporary one too, else each would start its own."""
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    server = SubprocessASGIServer()
    if PREFECT_API_URL.value() or not server.running:
        yield
        return
    before = os.environ.get("PREFECT_API_URL")
    os.environ["PREFECT_API_URL"] = server.api_url
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield
    finally:
        del os.environ["PREFECT_API_URL"]
        if before is not None:
            os.environ["PREFECT_API_URL"] = before


__all__ = ["check_cluster", "split", "spread"]
