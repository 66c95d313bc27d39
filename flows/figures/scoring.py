"""What it saves that a scored beginning is not computed again: a beam of depth 8 and best-of-n, read whole and from memory.

    python -m flows.figures.scoring

Real searches of the bundled models on `word` problems of eight steps. What they had verified is written down, slice by slice,
and then verified again by a reward model that begins with an empty memory: once with every trace computed from its first
token, once with what is in memory left out, in turns. The values are compared on the way.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from flows.parts import spec
from flows.work import generator_of, search_of, verifier_of
from pipelines.problems.load import load_problems
from search.drive import Driver, NoJournal
from search.types import Join, Part, Reading, Trace, Verifier
from verifiers.registry import load_verifier

SEARCHES = {"beam n=8, keep=4": "beam:n=8,keep=4", "best-of-n n=16": "best-of-n:n=16,select=best"}
PATHS = ("whole", "paged")


@dataclass(slots=True)
class Recorder:
    """A verifier that writes down what it is asked."""

    verifier: Verifier
    name: str
    slices: list[list[Trace]] = field(default_factory=list)

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        self.slices.append(list(traces))
        return self.verifier.score(traces)


def asked(strategy: str, problems: str) -> list[list[Trace]]:
    """What the searches have verified, in slices, in the order in which they do."""
    run = spec(problems, strategy)
    model, (verifier, join) = generator_of(run.generator), verifier_of(run.verifier)
    recorder = Recorder(verifier, verifier.name)
    judge: tuple[Verifier, Join] = (recorder, join)
    searches = (search_of(i, each, run, model, judge) for i, each in enumerate(load_problems(run.problems)))
    for outcome in Driver(model.engine, recorder, NoJournal(), 64).drive(searches):
        if outcome.error:
            raise RuntimeError(outcome.error)
    return recorder.slices


def reread(path: str, slices: Sequence[Sequence[Trace]]) -> tuple[list[Reading], float]:
    """The readings by a fresh reward model, and the CPU seconds that they took."""
    verifier, _ = load_verifier(Part("prm", {"path": path}))
    began = time.process_time()
    readings = [reading for each in slices for reading in verifier.score(each)]
    return readings, time.process_time() - began


def row(title: str, slices: Sequence[Sequence[Trace]], rounds: int) -> str:
    seconds: dict[str, list[float]] = {path: [] for path in PATHS}
    readings: dict[str, list[Reading]] = {}
    for _ in range(rounds):
        for path in PATHS:
            readings[path], took = reread(path, slices)
            seconds[path].append(took)
    pairs = list(zip(*readings.values(), strict=True))
    if any(abs(a - b) > 2e-4 for one, other in pairs for a, b in zip(one.parts, other.parts, strict=True)):
        raise AssertionError("the two ways give different values")
    tokens = {path: sum(reading.tokens for reading in readings[path]) for path in PATHS}
    steps = sum(len(reading.parts) for reading in readings["paged"])
    depth = sum(len(reading.parts) for reading in readings["paged"]) / len(pairs)
    faster = median(a / b for a, b in zip(*seconds.values(), strict=True))
    rates = {path: len(pairs) / median(seconds[path]) for path in PATHS}
    cells = (
        f"{len(pairs):,} ({depth:.1f} steps)",
        *(f"{tokens[path]:,}" for path in PATHS),
        f"{tokens['whole'] / tokens['paged']:.2f}x",
        f"{faster:.2f}x",
        *(f"{rates[path]:,.0f}" for path in PATHS),
        f"{steps / median(seconds['paged']):,.0f}",
    )
    return f"| {title} | " + " | ".join(cells) + " |"


def main(count: int, rounds: int) -> None:
    import torch

    torch.set_num_threads(1)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    say("| search | traces | tokens, whole | from memory | fewer | time | traces/s, whole | from memory | steps/s |")
    say("|---|---|---|---|---|---|---|---|---|")
    for title, strategy in SEARCHES.items():
        say(row(title, asked(strategy, f"word:count={count},levels=8"), rounds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.problems, given.rounds)
