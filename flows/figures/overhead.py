"""What a sweep spends outside of generating and verifying, and how long its task runs are.

    python -m flows.figures.overhead demo       # the demo's sweep, under Prefect: where the seconds go
    python -m flows.figures.overhead slow       # problems that take 10 s each: a generator that sleeps, all else real

Seconds are of the thread that works, each moment counted once; the store's writer is a thread beside it and is given apart.
Prefect's temporary server is started before the clock, and its start is given apart. `--problems`, `--database`, `--no-share`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.tables import console, number, table
from search.types import RunSpec

SLOW = 10.0  # seconds of a problem


@dataclass
class Clock:
    """Wall and CPU seconds by what they went into: of nested parts the inner one has them."""

    wall: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _stack: list[tuple[str, float, float]] = field(default_factory=list)

    def enter(self, name: str) -> None:
        self._settle()
        self._stack.append((name, time.perf_counter(), time.thread_time()))

    def leave(self) -> None:
        self._settle()
        self._stack.pop()
        if self._stack:
            self._stack[-1] = (self._stack[-1][0], time.perf_counter(), time.thread_time())

    def _settle(self) -> None:
        if self._stack:
            name, wall, cpu = self._stack[-1]
            self.wall[name] += time.perf_counter() - wall
            self.cpu[name] += time.thread_time() - cpu

    def over(self, name: str, of: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted."""

        def timed(*given: Any, **named: Any) -> Any:
            self.enter(name)
            try:
                return of(*given, **named)
            finally:
                self.leave()

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["demo", "slow"])
    parser.add_argument("--problems", type=int, default=0)
    parser.add_argument("--database", default="")
    parser.add_argument("--no-share", action="store_true", help="each run generates for itself what others have drawn too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("PREFECT_HOME", str(Path(folder) / "prefect"))
        where = options.database or str(Path(folder) / "figures.db")
        specs = _demo(options.problems or 60) if options.what == "demo" else _slow(options.problems or 8)
        _measured(options.what, specs, where, not options.no_share)


def _demo(problems: int) -> list[RunSpec]:
    from flows.demo import FAMILIES, STRATEGIES
    from flows.parts import spec

    sets = [f"{family}:split=test,count={problems},seed=1" for family in FAMILIES]
    return [spec(one, strategy) for one in sets for strategy in STRATEGIES]


def _slow(problems: int) -> list[RunSpec]:
    from flows.parts import spec

    return [spec(f"word:split=test,count={problems},seed=1", "best-of-n:n=8,select=weighted")]


def _measured(what: str, specs: Sequence[RunSpec], where: str, share: bool) -> None:
    began = time.perf_counter()
    from flows import evaluate as flows
    from flows import work
    from flows.parameters import RunParameters

    started = _server()
    for part in {str(spec.generator): spec.generator for spec in specs}.values():
        work.generator_of(part)
    for part in {str(spec.verifier): spec.verifier for spec in specs}.values():
        work.verifier_of(part)
    _warm(specs[0])
    start = time.perf_counter() - began
    clock = Clock()
    if what == "slow":
        _sleepy(type(work.generator_of(specs[0].generator).engine))
        work.CONCURRENCY = 1
    writer = _probed(clock, specs)
    clock.enter("Prefect: flow and task runs, artifacts")
    flows.sweep(
        [RunParameters.model_validate(spec) for spec in specs], where, [str(spec.strategy) for spec in specs], share=share
    )
    clock.leave()
    _print(what, specs, clock, writer, start, started)


def _server() -> float:
    """Starts Prefect's temporary server, with what the first flow of a process loads; the seconds it took."""
    from prefect import flow

    began = time.perf_counter()
    flow(name="first", log_prints=False)(lambda: None)()
    return time.perf_counter() - began


def _warm(spec: RunSpec) -> None:
    """Compiles what is compiled when it is first used."""
    from flows import work
    from pipelines.problems.load import load_problems

    list(work.solve(list(enumerate(load_problems(spec.problems)[:4])), spec))


def _probed(clock: Clock, specs: Sequence[RunSpec]) -> Counter[str]:
    """Puts the clock into the parts; what the writer's thread spends, in CPU seconds and transactions."""
    from flows import stretch, work
    from search.drive import Driver
    from store.database import Database
    from store.journal import StoreJournal
    from store.shared import Shared
    from verifiers.grade import Graders

    parts: tuple[tuple[str, Any, Sequence[str]], ...] = (
        ("trees and strategies", Driver, ("_resume",)),
        ("Python: planning the runs", work, ("plan",)),
        ("looking for samples of other runs", Shared, ("submit",)),
        ("rows for the store", StoreJournal, ("answered", "closed")),
        ("waiting for the store", StoreJournal, ("written",)),
        ("grading", Graders, ("grade",)),
        ("database: plans, leases, reading", Database, ("transact",)),
    )
    for spec in specs:
        engine, verifier = work.generator_of(spec.generator).engine, work.verifier_of(spec.verifier)[0]
        parts += (("generating", type(engine), ("submit", "advance", "forget")), ("verifying", type(verifier), ("score",)))
    writer: Counter[str] = Counter()
    write = StoreJournal._write

    def writing(self: StoreJournal, buffers: list[Any]) -> None:
        began = time.thread_time()
        transact = Database.transact
        Database.transact = plain  # type: ignore[method-assign]
        try:
            write(self, buffers)
        finally:
            Database.transact = transact  # type: ignore[method-assign]
        writer["seconds"] += time.thread_time() - began  # type: ignore[assignment]
        writer["transactions"] += 1

    import threading

    plain, ours = Database.transact, threading.get_ident()
    StoreJournal._write = writing  # type: ignore[method-assign]
    for name, of, methods in dict.fromkeys(parts):
        for method in methods:
            real = getattr(of, method)
            timed = clock.over(name, real)

            def here(*given: Any, _real: Any = real, _timed: Any = timed, **named: Any) -> Any:
                return (_timed if threading.get_ident() == ours else _real)(*given, **named)

            setattr(of, method, here)
    stretch.stretch = clock.over("Python: driving, progress", stretch.stretch)
    return writer


def _sleepy(of: type[Any]) -> None:
    """Makes a generator take SLOW seconds for each request of a search, most of them asleep."""
    advance, began = of.advance, {"at": time.monotonic()}

    def slow(self: Any) -> Any:
        done = advance(self)
        if done:
            time.sleep(max(SLOW - (time.monotonic() - began["at"]), 0.0))
            began["at"] = time.monotonic()
        return done

    of.advance = slow


def _print(what: str, specs: Sequence[RunSpec], clock: Clock, writer: Counter[str], start: float, server: float) -> None:
    total, cpu = sum(clock.wall.values()), sum(clock.cpu.values())
    inside = sum(clock.wall[name] for name in ("generating", "verifying"))
    worked = sum(clock.cpu[name] for name in ("generating", "verifying"))
    made = table("what", ">seconds", ">share", ">CPU seconds", title=f"\n{len(specs)} runs of {specs[0].problems} and others")
    for name, seconds in sorted(clock.wall.items(), key=lambda pair: -pair[1]):
        made.add_row(name, number(seconds, 1), f"{seconds / total:.1%}", number(clock.cpu[name], 1))
    made.add_row("in all", number(total, 1), "", number(cpu, 1))
    out = console()
    out.print(made)
    out.print(
        f"outside of generating and verifying: {1 - inside / total:.1%} of the wall time, {1 - worked / cpu:.1%} of the CPU's"
    )
    out.print(f"the store's writer, beside it: {writer['seconds']:.1f} CPU seconds, {writer['transactions']:,} transactions")
    out.print(f"before the clock: {start:.1f} s, of which Prefect's server and first flow {server:.1f}")
    runs = _task_runs()
    out.print(
        f"{len(runs)} task runs, mean {sum(runs) / len(runs):.1f} s, shortest {min(runs):.1f} s, longest {max(runs):.1f} s"
    )


def _task_runs() -> list[float]:
    """Seconds of the task runs, as Prefect's server has them."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for _ in range(30):  # its last events may be on their way
            runs = client.read_task_runs()
            if runs and all(run.state is not None and run.state.is_final() for run in runs):
                break
            time.sleep(1.0)
    return [run.total_run_time.total_seconds() for run in runs]


if __name__ == "__main__":
    main()
