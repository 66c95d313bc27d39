"""What is generated in a race: how many rows from which prompts, and how long each.

Lengths are given, not drawn from the model, so that every contender does the same work. Prompts are random tokens, new ones
each round: a cache that outlives a round must not help.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Tokens = tuple[int, ...]
SLOTS = 64  # rows that a contender runs at once


@dataclass(frozen=True, slots=True)
class Flat:
    """Independent rows: prompt i is continued len(lengths[i]) times, by so many tokens each."""

    prompts: tuple[Tokens, ...]
    lengths: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens asked for."""
        return sum(map(sum, self.lengths))


@dataclass(frozen=True, slots=True)
class Tree:
    """A search: `nodes` branches, each forked `forks` times at every step; chosen[s] are the forks that step s + 1 grows from,
    as indices into the nodes * forks rows of step s."""

    prompt: Tokens
    nodes: int
    forks: int
    length: int  # tokens of a step
    steps: int
    chosen: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> int:
        return self.nodes * self.forks

    @property
    def tokens(self) -> int:
        return self.rows * self.length * self.steps


Work = Flat | Tree


class Make(Protocol):
    """Draws the prompts of a work from the letters; a small one is for tests."""

    def __call__(self, rng: random.Random, letters: Sequence[int], small: bool) -> Work: ...


@dataclass(frozen=True, slots=True)
class Workload:
    """A line of the table."""

    title: str
    make: Make
    bars: Mapping[str, float | None]  # contender -> how many times its CPU time ours must be; None: shown without a bar


def _prompt(rng: random.Random, letters: Sequence[int], length: int) -> Tokens:
    return tuple(rng.choices(letters, k=length))


def geometric(rng: random.Random, mean: float, most: int) -> int:
    """A length of at least 1, geometric with this mean, cut at `most`."""
    return min(most, 1 + int(math.log(1.0 - rng.random()) / math.log(1.0 - 1.0 / mean)))


def equal(rng: random.Random, letters: Sequence[int], small: bool) -> Flat:
    rows, prompt, new = (8, 16, 8) if small else (64, 64, 64)
    return Flat((_prompt(rng, letters, prompt),), ((new,) * rows,))


def ragged(rng: random.Random, letters: Sequence[int], small: bool) -> Flat:
    prompts, rows, mean, most = (2, 8, 8, 24) if small else (4, 64, 40, 256)
    lengths = random.Random(0)  # the same in every round: the longest of a batch decides much
    return Flat(
        tuple(_prompt(rng, letters, 16 if small else 64) for _ in range(prompts)),
        tuple(tuple(geometric(lengths, mean, most) for _ in range(rows)) for _ in range(prompts)),
    )


def tree(rng: random.Random, letters: Sequence[int], small: bool) -> Tree:
    nodes, forks, length, steps = (4, 2, 4, 3) if small else (16, 4, 12, 8)
    chosen = tuple(tuple(sorted(rng.sample(range(nodes * forks), nodes))) for _ in range(steps - 1))
    return Tree(_prompt(rng, letters, 16 if small else 64), nodes, forks, length, steps, chosen)


def prefix(rng: random.Random, letters: Sequence[int], small: bool) -> Flat:
    rows, prompt, new = (8, 128, 8) if small else (64, 512, 64)
    return Flat((_prompt(rng, letters, prompt),), ((new,) * rows,))


def one(rng: random.Random, letters: Sequence[int], small: bool) -> Flat:
    prompt, new = (16, 8) if small else (64, 64)
    return Flat((_prompt(rng, letters, prompt),), ((new,),))


WORKLOADS: dict[str, Workload] = {
    "equal": Workload("N = 64, 64 + 64 tokens", equal, {"generate": 2.3, "continuous": 4.5, "kept": None}),
    "ragged": Workload("ragged: 4 prompts x 64, lengths geometric, mean 40", ragged, {"generate": 7.0, "continuous": 5.0}),
    "tree": Workload("tree: 16 nodes x 4 forks x 12 tokens x 8 steps", tree, {"generate": 6.0, "continuous": 6.0, "kept": 1.6}),
    "prefix": Workload("prefix 512, N = 64, 64 new", prefix, {"generate": 3.0, "continuous": 5.0, "kept": None}),
    "one": Workload("N = 1, 64 + 64 tokens", one, {"generate": 1.2, "continuous": 1.2, "kept": None}),
}
