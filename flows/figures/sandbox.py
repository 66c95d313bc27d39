"""What a sandboxed check costs, beside the same interpreter started bare, in turns (A, B, A, B).

    python -m flows.figures.sandbox                 # 4 turns of 50 runs each, then 1,000 checks side by side

A check is a candidate's function called on one test, or on twenty, in a sandbox of its own. The bare interpreter gets the same
program with nothing around it: no namespace, no filter, no limits. After all of it, what is still running is counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows.tables import console, table
from verifiers.sandbox import How, require, run
from verifiers.sandbox.bubble import INSIDE, PYTHON

PROGRAM = "def add(a, b):\n    return a + b\n"
WANTED = 150.0  # ms


def bare() -> None:
    """The interpreter with the program, a call of it, and json, which the sandbox's own side reads too."""
    code = PROGRAM + "import json\nprint(json.dumps(add(20, 22)))"
    subprocess.run([PYTHON, "-I", "-S", "-B", "-c", code], env={}, check=True, capture_output=True)


def checked(tests: int) -> Callable[[], None]:
    """A check of that many tests."""

    def check() -> None:
        ran = run(PROGRAM, "call", [[each, 22] for each in range(tests)], "add")
        if [result.how for result in ran.results] != [How.DONE] * tests:
            raise RuntimeError(f"a check failed: {ran}")

    return check


def milliseconds(what: Callable[[], None], runs: int) -> list[float]:
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        what()
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def in_turns(what: dict[str, Callable[[], None]], turns: int, runs: int) -> dict[str, list[list[float]]]:
    """Each one's times, turn by turn."""
    found: dict[str, list[list[float]]] = {name: [] for name in what}
    for each in what.values():
        each()  # the first reads files that the others find in memory
    for _ in range(turns):
        for name, each in what.items():
            found[name].append(milliseconds(each, runs))
    return found


def survivors() -> int:
    """Processes whose command line holds what runs first inside: the sandbox's own and all its forks."""
    mark, left = INSIDE.read_bytes()[:200], 0
    for entry in Path("/proc").iterdir():
        try:
            left += entry.name.isdigit() and mark in (entry / "cmdline").read_bytes()
        except OSError:
            continue
    return left


def sustained(checks: int, threads: int) -> float:
    """Checks a second, side by side."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(checked(1)) for _ in range(checks)]:
            done.result()
    return checks / (time.perf_counter() - began)


def p90(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=10)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--runs", type=int, default=50, help="in a turn")
    parser.add_argument("--checks", type=int, default=1000, help="side by side, at the end")
    options = parser.parse_args()
    require()
    what = {"bare interpreter": bare, "check of 1 test": checked(1), "check of 20 tests": checked(20)}
    found = in_turns(what, options.turns, options.runs)
    made = table("what", ">median ms", ">p90 ms", "medians of the turns")
    for name, turns in found.items():
        every = [each for turn in turns for each in turn]
        said = " ".join(f"{statistics.median(turn):.0f}" for turn in turns)
        made.add_row(name, f"{statistics.median(every):.1f}", f"{p90(every):.1f}", said)
    console().print(made)
    threads = len(os.sched_getaffinity(0))
    rate = sustained(options.checks, threads)
    console().print(f"{options.checks} checks in {threads} threads: {rate:.1f} a second, {survivors()} processes left")
    middle = statistics.median([each for turn in found["check of 1 test"] for each in turn])
    sys.exit(int(middle > WANTED or survivors() > 0))


if __name__ == "__main__":
    main()
