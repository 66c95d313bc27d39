"""Shards over a cluster of two nodes against one: throughput, and what two processes can get out of this machine at all.

    python -m flows.figures.cluster            # needs the extra `dask`

One run of many shards, in turn on a Dask cluster of 1 and of 2 single-threaded worker processes, each pinned to a core,
through the flow `evaluate` and Prefect's task runner, with a database and leases. Timed is from the first shard's start to the
last one's end, models warm (a run of other seeds comes first); and how often each process loaded the models. The ceiling is
measured in the same command, in turn with it: one and two processes, pinned likewise, that do the same searches without Dask,
Prefect and database; and one and two plain loops.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.figures.pool import server
from flows.tables import console, number, table
from search.types import RunSpec
from store import queries
from store.database import open_database

SHARD, SHARDS = 8, 32
BATCH = 64  # problems at once, where there is no cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", type=int, default=-1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone >= 0:
        alone(options.alone)
        return
    rates: dict[str, dict[int, list[float]]] = {name: {1: [], 2: []} for name in ("cluster", "no cluster", "loops")}
    with tempfile.TemporaryDirectory() as folder, server(folder):
        loads: dict[int, int] = {}
        for turn in range(options.rounds):
            for nodes in (1, 2):
                # one cluster at a time: a process that knows two sends the tasks of both to the last one
                with cluster(nodes) as address:
                    clustered(folder, address, 10 + 2 * turn + nodes, 2 * nodes)  # warm
                    rates["cluster"][nodes].append(clustered(folder, address, 100 + 2 * turn + nodes, SHARDS))
                    loads = loaded(address)
                rates["no cluster"][nodes].append(sum(together(nodes, "flows")))
                rates["loops"][nodes].append(sum(together(nodes, "loop")))
    made = table("what", ">1 process", ">2 processes", ">ratio", ">least", ">most")
    for name, found in rates.items():
        ratios = [b / a for a, b in zip(found[1], found[2], strict=True)]
        cells = [number(statistics.median(found[n])) for n in (1, 2)]
        made.add_row(name, *cells, *(number(f(ratios), 2) for f in (statistics.median, min, max)))
    out = console()
    out.print(made)
    out.print("cluster, no cluster: generated tokens/s; loops: additions/ms. The load of the machine: " + load())
    out.print(f"models loaded by the two workers, process id -> times: {loads}")


def load() -> str:
    return ", ".join(f"{each:.1f}" for each in os.getloadavg()) + " (1, 5, 15 minutes)"


def the_run(seed: int, shards: int) -> RunSpec:
    from flows.parts import spec

    return spec(f"word:count={SHARD * shards},levels=2-4,seed=5", "beam:n=8,keep=4", seed=seed)


# --------------------------------------------------------------------------------------------------------------- cluster


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """A scheduler and so many worker processes of one thread, each on a core of its own; the scheduler's address."""
    from distributed import LocalCluster

    made = LocalCluster(n_workers=nodes, threads_per_worker=1, dashboard_address=None, processes=True)
    with made, made.get_client() as client:
        client.wait_for_workers(nodes)
        for i, worker in enumerate(client.scheduler_info()["workers"]):
            client.submit(pinned, i, workers=[worker], pure=False).result()
        yield made.scheduler_address


def pinned(core: int) -> None:
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core % os.cpu_count()]})  # type: ignore[operator]
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), os.sched_getaffinity(0))


def clustered(folder: str, address: str, seed: int, shards: int) -> float:
    """One run over the cluster; its generated tokens/s while it solved."""
    from flows.evaluate import evaluate
    from flows.parameters import RunParameters

    where, spec = str(Path(folder) / "cluster.db"), the_run(seed, shards)
    evaluate(RunParameters.model_validate(spec), where, f"seed {seed}", cluster=address, shard=SHARD)
    with open_database(where) as database:
        tokens = queries.summary(database, spec.id).generated_tokens
        assert tokens is not None
        began, ended = spent(database, spec.id)
        return tokens * SHARD * shards / (ended - began)


def spent(database: Any, run_id: str) -> tuple[float, float]:
    """The first task run's start and the last one's end, by Prefect."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter, TaskRunFilterName

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_runs(limit=1, sort="EXPECTED_START_TIME_DESC")[0]  # type: ignore[arg-type]
        until = time.monotonic() + 60
        while True:  # its server writes what happened a little later
            found = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id={"any_": [flow_run.id]}),  # type: ignore[arg-type]
                task_run_filter=TaskRunFilter(name=TaskRunFilterName(like_="solve shard")),
            )
            if found and all(each.end_time for each in found):
                break
            if time.monotonic() > until:
                raise TimeoutError(f"Prefect does not know when the shards of run {run_id} ended")
            time.sleep(0.5)
    starts, ends = [each.start_time for each in found], [each.end_time for each in found]
    return min(at.timestamp() for at in starts if at), max(at.timestamp() for at in ends if at)


def loaded(address: str) -> dict[int, int]:
    """How often each worker process loaded the generator."""
    from distributed import Client

    def misses() -> tuple[int, int]:
        from flows import work

        return os.getpid(), work._generator.cache_info().misses

    with Client(address) as client:
        return dict(client.run(misses).values())


# --------------------------------------------------------------------------------------------------------------- ceiling


def together(count: int, what: str) -> list[float]:
    """The rates of so many processes that begin at once, each on its own core."""
    number_of = {"flows": 0, "loop": 2}[what]
    command = [sys.executable, "-m", "flows.figures.cluster", "--alone"]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}  # as Dask sets it for its workers
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": one}
    processes: list[Any] = [subprocess.Popen([*command, str(number_of + i)], **pipes) for i in range(count)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [float(process.communicate()[0]) for process in processes]


def alone(number_of: int) -> None:
    """A process on its own: 0 and 1 search on core 0 and 1, 2 and 3 loop there. Prints its rate."""
    pinned(number_of % 2)
    ready, work = (searching if number_of < 2 else looping)(number_of)
    ready()
    sys.stdout.write("up\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(f"{work()}\n")


def searching(seed: int) -> tuple[Callable[[], object], Callable[[], float]]:
    from flows import work
    from pipelines.problems.load import load_problems

    spec = the_run(1000 + seed, SHARDS // 2)
    problems = list(enumerate(load_problems(spec.problems)))

    def solved() -> float:
        began, tokens = time.monotonic(), 0
        for at in range(0, len(problems), BATCH):
            for outcome in work.solve(problems[at : at + BATCH], spec):
                tokens += outcome.search.tree.usage.generated_tokens
        return tokens / (time.monotonic() - began)

    return lambda: list(work.solve(problems[:4], spec)), solved


def looping(seed: int) -> tuple[Callable[[], object], Callable[[], float]]:
    def added() -> float:
        began, total = time.monotonic(), 0
        for i in range(20_000_000):
            total += i
        return 20_000 / (time.monotonic() - began)

    return lambda: None, added


if __name__ == "__main__":
    main()
