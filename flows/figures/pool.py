"""Two ways of having workers and what each costs a run; what Prefect's worker does when it is stopped or a run cancelled.

    python -m flows.figures.pool cost        # seconds from a run's submission to its end, and the worker's CPU seconds
    python -m flows.figures.pool cancel      # the flow run is cancelled by Prefect's API, as its page does
    python -m flows.figures.pool terminate   # SIGTERM to Prefect's worker
    python -m flows.figures.pool command     # SIGTERM, then a cancellation, to `ponderosa run` under Prefect

Each starts a Prefect server of its own, with its state in a temporary folder, and one worker. A run is small: 16 problems, beam
search; the long one is that of `flows.figures.workers`.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from flows.figures.workers import LONG, long_run
from flows.tables import console, number, table
from search.types import RunSpec
from store import queue
from store.database import Database, open_database
from store.runs import find_run

ROOT = Path(__file__).resolve().parents[2]
POOL = "ponderosa"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "cancel", "terminate", "command"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(folder):
        {"cost": cost, "cancel": cancel, "terminate": terminate, "command": command}[options.what](folder, options.rounds)


# ------------------------------------------------------------------------------------------------------------- processes


def started(*arguments: str, log: str = "") -> subprocess.Popen[bytes]:
    out = open(log, "ab") if log else subprocess.DEVNULL  # noqa: SIM115  the process has it
    # a shell's background job ignores Ctrl-C, and so would Prefect's worker, which makes one of SIGTERM
    reset = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stdout=out, stderr=out, preexec_fn=reset)


@contextmanager
def running(*arguments: str, log: str = "") -> Iterator[subprocess.Popen[bytes]]:
    process = started(*arguments, log=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def server(folder: str) -> Iterator[None]:
    """A Prefect server, and this process and its children told of it."""
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "PREFECT_HOME": folder + "/prefect",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
    }
    with running("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), log=folder + "/server.log"):
        url = f"http://127.0.0.1:{port}/api"
        until = time.monotonic() + 240
        while True:
            try:
                if httpx.get(url + "/health", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if time.monotonic() > until:
                raise TimeoutError("Prefect's server does not start")
            time.sleep(0.5)
        os.environ["PREFECT_API_URL"] = url
        yield


@contextmanager
def pool_worker(folder: str) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    """Prefect's process worker, its log, and the deployment of `evaluate` in its pool."""
    from flows.evaluate import evaluate

    log = folder + "/worker.log"
    subprocess.run([sys.executable, "-m", "prefect", "work-pool", "create", POOL, "--type", "process"], check=True, cwd=ROOT)
    there = evaluate.from_source(str(ROOT), "flows/evaluate.py:evaluate")
    deployment = there.deploy("figures", work_pool_name=POOL, print_next_steps=False, ignore_warnings=True)  # type: ignore[union-attr]
    with running("prefect", "worker", "start", "--pool", POOL, "--type", "process", log=log) as process:
        yield process, log, str(deployment)


def ask(work: Callable[[Any], Any]) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return work(client)


def asked_for(deployment: str, spec: RunSpec, where: str) -> Any:
    from flows.parameters import RunParameters

    said = RunParameters.model_validate(spec).model_dump(mode="json")
    parameters = {"spec": said, "database": where, "name": "figures"}
    return ask(lambda client: client.create_flow_run_from_deployment(deployment, parameters=parameters)).id


def state(flow_run: Any) -> Any:
    return ask(lambda client: client.read_flow_run(flow_run).state)


def until(what: Callable[[], object], seconds: float = 300, every: float = 0.1) -> float:
    """Waits; the seconds it took."""
    began = time.monotonic()
    while not what():
        if time.monotonic() - began > seconds:
            raise TimeoutError("it does not happen")
        time.sleep(every)
    return time.monotonic() - began


def small_run(seed: int) -> RunSpec:
    from flows.parts import spec

    return spec("word:count=16,seed=3", "beam:n=4,keep=2", seed=seed)


def done(database: Database, run_id: str) -> bool:
    try:
        return find_run(database, run_id).status == "done"
    except Exception:
        return False


def children(pid: int) -> list[int]:
    import psutil  # type: ignore[import-untyped]

    return [each.pid for each in psutil.Process(pid).children(recursive=True)]


def cpu(pid: int) -> float:
    """Seconds of a process and of its children that have ended."""
    import psutil

    return float(sum(psutil.Process(pid).cpu_times()[:4]))


# ------------------------------------------------------------------------------------------------------------------ cost


def cost(folder: str, rounds: int) -> None:
    made = table("worker", ">runs", ">s to its end: first", ">then: median", ">CPU s a run, then")
    for name, way in (("ponderosa worker", plain), ("Prefect, process pool", pooled)):
        with way(folder) as (pid, submit, database):
            seconds, used = [], []
            for seed in range(rounds + 1):
                began, before = time.monotonic(), cpu(pid)
                run_id = submit(seed)
                until(lambda: done(database, run_id), 600)  # noqa: B023
                seconds.append(time.monotonic() - began)
                time.sleep(3.0)  # a process that ends is counted then
                used.append(cpu(pid) - before)
        middle = number(statistics.median(seconds[1:]), 1)
        made.add_row(name, f"{rounds + 1}", number(seconds[0], 1), middle, number(statistics.median(used[1:]), 1))
    console().print(made)


Way = tuple[int, Callable[[int], str], Database]


@contextmanager
def plain(folder: str) -> Iterator[Way]:
    from flows import work

    where = folder + "/plain.db"
    with open_database(where) as database, running("flows.cli", "worker", "-d", where, "--slots", "64") as process:

        def submit(seed: int) -> str:
            work.submit(database, small_run(seed))
            return small_run(seed).id

        yield process.pid, submit, database


@contextmanager
def pooled(folder: str) -> Iterator[Way]:
    where = folder + "/pool.db"
    with open_database(where) as database, pool_worker(folder) as (process, _, deployment):

        def submit(seed: int) -> str:
            asked_for(deployment, small_run(seed), where)
            return small_run(seed).id

        yield process.pid, submit, database


# ------------------------------------------------------------------------------------------------------------------ ends


def long_flow(folder: str, deployment: str, database: Database, seed: int) -> tuple[Any, str]:
    """A long generation under Prefect's worker, once it has stored something."""
    flow_run, spec = asked_for(deployment, long_run(seed), database.shown), long_run(seed)
    until(lambda: _generating(database, spec.id), 600)
    time.sleep(3.0)
    return flow_run, spec.id


def _generating(database: Database, run_id: str) -> bool:
    return bool(queue.owners(database, run_id))


def cancel(folder: str, rounds: int) -> None:
    from prefect.client.schemas.objects import State, StateType

    leases, ends, left = [], [], 0
    with open_database(folder + "/cancel.db") as database, pool_worker(folder) as (process, log, deployment):
        for seed in range(rounds):
            flow_run, run_id = long_flow(folder, deployment, database, seed)
            wanted = State(type=StateType.CANCELLING)
            ask(lambda client: client.set_flow_run_state(flow_run, wanted))  # noqa: B023
            began = time.monotonic()
            leases.append(until(lambda: not queue.owners(database, run_id), 60, 0.02))  # noqa: B023
            until(lambda: state(flow_run).is_final(), 120)  # noqa: B023
            ends.append(time.monotonic() - began)
            until(lambda: not children(process.pid), 60)
            left += len(children(process.pid))
            said = state(flow_run).name, find_run(database, run_id).status
        tracebacks = Path(log).read_text().count("Traceback")
    heads = ">to the last lease, s: median", ">most", ">to its final state", ">left", ">tracebacks"
    made = table("cancelled on the page", *heads)
    spread = (number(f(leases), 1) for f in (statistics.median, max))
    made.add_row(f"{rounds}: {said}", *spread, number(statistics.median(ends), 1), f"{left}", f"{tracebacks}")
    console().print(made)


def terminate(folder: str, rounds: int) -> None:
    seconds, codes, tracebacks, left, leases = [], [], 0, 0, []
    with open_database(folder + "/terminate.db") as database:
        for seed in range(rounds):
            with ExitStack() as stack:
                if seed:
                    subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", "work-pool", "delete", POOL], check=False)
                process, log, deployment = stack.enter_context(pool_worker(folder))
                flow_run, run_id = long_flow(folder, deployment, database, seed)
                flows = children(process.pid)
                process.send_signal(signal.SIGTERM)
                began = time.monotonic()
                leases.append(until(lambda: not queue.owners(database, run_id), 60, 0.02))  # noqa: B023
                codes.append(process.wait(120))
                seconds.append(time.monotonic() - began)
                left += sum(os.path.exists(f"/proc/{pid}") for pid in flows)
                tracebacks = Path(log).read_text().count("Traceback")
                said = state(flow_run).name, find_run(database, run_id).status
    heads = ">to the last lease, s", ">to its end: median", ">most", ">codes", ">left", ">tracebacks"
    made = table("SIGTERM to Prefect's worker", *heads)
    spread = (number(f(seconds), 1) for f in (statistics.median, max))
    middle = number(statistics.median(leases), 1)
    made.add_row(f"{rounds}: {said}", middle, *spread, f"{sorted(set(codes))}", f"{left}", f"{tracebacks}")
    console().print(made)


def command(folder: str, rounds: int) -> None:
    """`ponderosa run` under Prefect, in the middle of its generation."""
    from prefect.client.schemas.objects import State, StateType

    heads = ">to the last lease, s: median", ">most", ">to its end: median", ">most", ">codes", ">tracebacks", "run", "flow run"
    made = table("what", *heads)
    for what in ("SIGTERM", "page"):
        seconds, leases, codes, where = [], [], list[int](), f"{folder}/{what}.db"
        log = f"{folder}/{what}.log"
        arguments = ["--problems", LONG["problems"], "--strategy", LONG["strategy"], "--verifier", "logprob"]
        arguments += ["--temperature", "4", "--tokens", "2000", "-d", where]
        with open_database(where) as database:
            for seed in range(rounds):
                spec = long_run(seed)
                process = started("flows.cli", "run", *arguments, "--seed", str(seed), log=log)
                until(lambda: _generating(database, spec.id), 600)  # noqa: B023
                time.sleep(3.0)
                newest = ask(lambda client: client.read_flow_runs(limit=1, sort="EXPECTED_START_TIME_DESC"))[0]
                began = time.monotonic()
                if what == "SIGTERM":
                    process.send_signal(signal.SIGTERM)
                else:
                    ask(lambda client: client.set_flow_run_state(newest.id, State(type=StateType.CANCELLING)))  # noqa: B023
                until(lambda: not queue.owners(database, spec.id), 60, 0.02)  # noqa: B023
                leases.append(time.monotonic() - began)
                codes.append(process.wait(120))
                seconds.append(time.monotonic() - began)
                ends = find_run(database, spec.id).status, state(newest.id).name
        spread = (number(f(each), 1) for each in (leases, seconds) for f in (statistics.median, max))
        made.add_row(what, *spread, f"{sorted(set(codes))}", f"{Path(log).read_text().count('Traceback')}", *ends)
    console().print(made)


if __name__ == "__main__":
    main()
