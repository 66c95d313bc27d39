"""State merging beside the same strategies without it, on the same problems and seeds: what it saves at what accuracy.

    python -m flows.figures.merging --problems 100 --seeds 0 1

Each wrapped strategy is paired with the plain one of the same parameters. "x less" is plain / merged of the mean tokens and of
the mean verifier passes over the same problems, with a bootstrap over problems (a problem's seeds stay together); above 1 is
saved. The difference of accuracies has its interval by the same draws: a saving is one only where that is near 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.figures.curves import ROUNDS, Point, point, runs
from flows.tables import console, number, table
from store import queries
from store.database import open_database

PLAIN: Mapping[str, str] = {"beam": "n=8,keep=4", "astar": "k=4"}
WRAPPED = ("how=equation,score=one", "how=equation,score=all", "how=embedding,distance={distance},score=one")


@dataclass(frozen=True, slots=True)
class Pair:
    """A strategy without and with merging, and what its vectors cost."""

    plain: Point
    merged: Point
    embedding_tokens: float  # mean a problem
    merges: float  # candidates that were merged, mean a problem


def pairs(strategy: str, distance: float, problems: str, verifier: str, seeds: Sequence[int], database: str) -> list[Pair]:
    """Runs what is not in the database yet and reads it from there."""
    own = PLAIN[strategy]
    name = f"{strategy}:{own}"
    plain = point(name, runs(name, problems, verifier, seeds, database), database)
    found = []
    for how in WRAPPED:
        said = how.format(distance=distance)
        ids = runs(f"fetch:of={strategy},{own},{said}", problems, verifier, seeds, database)
        found.append(Pair(plain, point(said, ids, database), *extras(ids, database)))
    return found


def extras(ids: Sequence[str], database: str) -> tuple[float, float]:
    """Embedding tokens and merged candidates, mean a problem."""
    tokens, merges = [], []
    with open_database(database) as opened:
        for run_id in ids:
            said = queries.summary(opened, run_id)
            tokens.append(said.embedding_tokens or 0.0)
            merged = sum(c.cause.startswith("says what ") for c in queries.candidates(opened, run_id, limit=None))
            merges.append(merged / said.problems)
    return float(np.mean(tokens)), float(np.mean(merges))


Statistic = Callable[[NDArray[np.int64]], float]


def bootstrap(of: Statistic, problems: int) -> tuple[float, float, float]:
    """A statistic of the problems picked: over all, and its 95% interval over resampled problems."""
    rng = np.random.default_rng(0)
    draws = np.sort([of(rng.integers(0, problems, problems)) for _ in range(ROUNDS)])
    return of(np.arange(problems)), float(draws[ROUNDS // 40]), float(draws[-ROUNDS // 40])


def saved(pair: Pair, what: str) -> Statistic:
    """How many times as much of `what` the plain strategy costs; nan where neither costs any."""
    plain, merged = getattr(pair.plain, what), getattr(pair.merged, what)
    return lambda pick: float(plain[pick].mean() / merged[pick].mean()) if merged[pick].any() else float("nan")


def better(pair: Pair) -> Statistic:
    """Accuracy with merging minus accuracy without."""
    return lambda pick: float(pair.merged.right[pick].mean() - pair.plain.right[pick].mean())


def show(title: str, found: Sequence[Pair]) -> None:
    out = console()
    made = table("strategy", ">accuracy", ">tokens", ">passes", ">embedding tokens", ">merged", title=f"\n{title}")
    plain = found[0].plain
    for each, embedded, merged in [(plain, 0.0, 0.0), *((p.merged, p.embedding_tokens, p.merges) for p in found)]:
        means = (number(float(each.tokens.mean())), number(float(each.passes.mean()), 1), number(embedded), number(merged, 1))
        made.add_row(each.name, number(float(each.right.mean()), 3), *means)
    out.print(made)
    versus = table("against the plain one", ">accuracy", ">tokens, x less", ">passes, x less")
    for pair in found:
        count = len(pair.plain.right)
        difference = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*bootstrap(better(pair), count))
        ratios = ["{:.2f} [{:.2f}, {:.2f}]".format(*bootstrap(saved(pair, what), count)) for what in ("tokens", "passes")]
        versus.add_row(pair.merged.name, difference, *ratios)
    out.print(versus)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--family", default="countdown")
    parser.add_argument("--strategies", nargs="+", choices=[*PLAIN], default=[*PLAIN])
    parser.add_argument("--distance", type=float, default=0.15)
    parser.add_argument("--verifier", default="prm")
    parser.add_argument("--database", default=".ponderosa/figures.db")
    options = parser.parse_args()
    problems = f"{options.family}:split=test,count={options.problems},seed=1"
    for strategy in options.strategies:
        found = pairs(strategy, options.distance, problems, options.verifier, options.seeds, options.database)
        show(f"{problems}, seeds {options.seeds}, {strategy}", found)


if __name__ == "__main__":
    main()
