"""Contenders timed in turns, A B C A B C, in one process.

The clock is the process's CPU time, all threads: others on the same machine change wall time far more. Ratios are of
times within a round. On CUDA, where the host's CPU time says nothing, it is wall time up to the device's last kernel.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from flows.figures.core.ours import Ours
from flows.figures.core.peers import PEERS, SETTINGS, Contender, Continuous, Generate, Kept
from flows.figures.core.workloads import WORKLOADS, Work

OURS = "ours"


@dataclass(frozen=True, slots=True)
class Options:
    """How races are run."""

    rounds: int = 3
    threads: int = 1
    device: str = "cpu"
    small: bool = False
    peers: Sequence[str] = tuple(PEERS)


@dataclass(frozen=True, slots=True)
class Result:
    """Of one workload: seconds round by round, by contender, and the tokens of each round."""

    seconds: Mapping[str, Sequence[float]]
    tokens: Sequence[int]

    def ratios(self, peer: str) -> list[float]:
        """How many times our seconds a peer took, round by round."""
        return [theirs / ours for theirs, ours in zip(self.seconds[peer], self.seconds[OURS], strict=True)]

    def speed(self, contender: str) -> float:
        """Tokens a second, the median."""
        return median(n / s for n, s in zip(self.tokens, self.seconds[contender], strict=True))


def race(workload: str, options: Options, ours: Ours, model: Any) -> Result:
    """One workload, ours and the peers that have a column there; the first round warms all up and does not count."""
    make = partial(WORKLOADS[workload].make, letters=ours.letters, small=options.small)
    works = [make(random.Random(f"{workload} {i}")) for i in range(options.rounds + 1)]
    contenders: dict[str, Contender] = {OURS: ours, **_peers(workload, works[0], options, model)}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for work in works:
            for name, contender in contenders.items():
                spent, count = timed(partial(contender.run, work), options.device)
                if count != work.tokens:
                    raise RuntimeError(f"{name} made {count} tokens of '{workload}', not {work.tokens}")
                seconds[name].append(spent)
    finally:
        for contender in contenders.values():
            contender.close()
    return Result({name: spent[1:] for name, spent in seconds.items()}, [work.tokens for work in works[1:]])


def _peers(workload: str, work: Work, options: Options, model: Any) -> dict[str, Contender]:
    build: dict[str, Callable[[], Contender]] = {
        "generate": lambda: Generate(model),
        "continuous": lambda: Continuous(model, work, SETTINGS[workload]),
        "kept": lambda: Kept(model),
    }
    return {name: build[name]() for name in WORKLOADS[workload].bars if name in options.peers}


def timed(work: Callable[[], int], device: str) -> tuple[float, int]:
    """The seconds that work took, and what it counted."""
    gc.collect()  # what one leaves behind is not to be collected in another's time
    clock = time.process_time if device == "cpu" else _synchronized
    began = clock()
    count = work()
    return clock() - began, count


def _synchronized() -> float:
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def pinned(cores: int) -> Iterator[None]:
    """The process's threads, and those they start, on the last of its cores; as it was where the system knows no such thing."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    _bind(set(sorted(before)[-cores:]))
    try:
        yield
    finally:
        _bind(before)


def _bind(cores: set[int]) -> None:
    """Every thread that is there: torch and numpy start their pools when they are imported."""
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it may have ended
            os.sched_setaffinity(int(thread), cores)
