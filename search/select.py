"""Choosing an answer from a pool of solutions: votes, scores, certainty. Shared by all strategies and usable alone.

A selector sees Entries, which a live tree and a stored run both provide, so any selector can be replayed over stored
candidates with no generation. One rule for ties everywhere: fewer tokens, then the earlier path. An entry without an
answer never wins and never votes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .checks import one_of
from .confidence import MEASURES, WINDOW, measured, threshold
from .tree import Tree
from .types import Candidate, Choice, Join, Path, Step, Vote, order


@dataclass(frozen=True, slots=True)
class Entry:
    """One solution as a selector sees it."""

    path: Path
    answer: str | None  # canonical key; None = cut off, or nothing could be extracted
    tokens: int  # length of the whole solution
    certainty: float = 0.0  # mean self-certainty over its tokens, nats; higher = surer
    logprob: float = 0.0  # sum of ln p over its tokens, nats
    parts: tuple[float, ...] = ()  # the verifier's values of its steps; () = not scored, or invalid
    value: float | None = None  # the parts joined as the run says; None where parts is ()
    # each token's confidence, nats, higher = surer, for deepconf; None where a pool was read without
    confidences: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    source: str = field(default="", compare=False)  # what they are: "top-k confidence", or "self-certainty" for want of it


def entries(tree: Tree, candidates: Sequence[Candidate]) -> list[Entry]:
    """The pool of a live search. What was merged into a candidate with its say kept is in it once, for itself; with the
    candidate's score where it was not judged."""
    heads = {path: tree.head(path) for candidate in candidates for path in tree.members(candidate.path)}
    pool, paths = [], [tree.steps(path) for path in heads]
    source, traces = confidences(paths)
    for (path, head), steps, trace in zip(heads.items(), paths, traces, strict=True):
        tokens = sum(map(len, steps))
        score = tree.scores.get(path) or tree.scores.get(head)
        pool.append(
            Entry(
                path=path,
                answer=tree.answer(path).key,
                tokens=tokens,
                certainty=sum(step.certainty * len(step) for step in steps) / max(tokens, 1),
                logprob=sum(step.logprob for step in steps),
                parts=score.parts if score and score.value is not None else (),
                value=score.value if score else None,
                confidences=trace,
                source=source,
            )
        )
    return pool


def confidences(paths: Sequence[Sequence[Step]]) -> tuple[str, list[NDArray[np.float32]]]:
    """Each solution's confidences of all its tokens, from its steps, and what they are.

    The self-certainties stand in for a whole pool where any step of it has none: the two cannot be compared.
    """
    kept = all(step.confidences is not None for steps in paths for step in steps)
    traces = []
    for steps in paths:
        arrays = [step.confidences if kept and step.confidences is not None else step.certainties for step in steps]
        traces.append(arrays[0] if len(arrays) == 1 else np.concatenate([np.zeros(0, dtype=np.float32), *arrays]))
    return "top-k confidence" if kept else "self-certainty", traces


Weigh = Callable[[Sequence[Entry]], Sequence[float | None]]


@dataclass(frozen=True)
class Selector:
    """A rule of choice by name. `join` re-reads the steps' values (None: as the run joined them). `power` is Borda's;
    `measure`, `window` and `keep` are DeepConf's. One rule's parameters mean nothing to another."""

    name: str = "majority"
    join: Join | None = None
    power: float = 0.3  # arXiv 2502.18581 recommends 0.3 for up to 16 candidates and 1.2 from 32
    measure: str = "lowest"  # of a trace's confidences: search.confidence
    window: int = WINDOW  # tokens of a group
    keep: float = 0.1  # of the answered candidates, the surest: 0.1 is DeepConf-low, 0.9 -high

    def __post_init__(self) -> None:
        one_of("selector", self.name, SELECTORS)
        if not 0 <= self.power <= 100:
            raise ValueError(f"power must be between 0 and 100, not {self.power}")
        one_of("measure", self.measure, MEASURES)
        if self.window < 1:
            raise ValueError(f"window must be at least 1 token, not {self.window}")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep must be above 0 and at most 1, not {self.keep}")

    @property
    def needs_verifier(self) -> bool:
        return SELECTORS[self.name].needs_verifier

    def __call__(self, pool: Sequence[Entry]) -> Choice:
        """The choice, with every answer's votes; path and answer are None where no entry has an answer and a weight."""
        rule = SELECTORS[self.name]
        answered = [e for e in pool if e.answer is not None]
        weights = rule.weigh(self, answered)
        counted = [(e, w) for e, w in zip(answered, weights, strict=True) if w is not None]
        if not counted:
            lacking = "has a valid score" if answered else "gave an answer"
            return Choice(None, None, f"none of {len(pool)} candidates {lacking}")
        votes = tally(counted, summed=rule.summed)
        winner = votes[0].answer
        best, _ = min((each for each in counted if each[0].answer == winner), key=_merit)
        unit = best.source if "confidences" in rule.reads else rule.unit
        said = f"{self.name}: {unit} {votes[0].weight:.4g} from {votes[0].count} of {len(pool)} candidates"
        return Choice(best.path, winner, said, tuple(votes))

    def __str__(self) -> str:
        return self.name + (f" ({self.join})" if self.join else "")


def _merit(counted: tuple[Entry, float]) -> tuple[float, int, tuple[int, ...]]:
    entry, weight = counted
    return (-weight, entry.tokens, order(entry.path))


def tally(counted: Sequence[tuple[Entry, float]], summed: bool) -> list[Vote]:
    """Votes by answer, heaviest first: weights added up, or the best of them where the rule picks one candidate."""
    groups: dict[str, list[tuple[Entry, float]]] = {}
    for entry, weight in counted:
        groups.setdefault(entry.answer or "", []).append((entry, weight))

    def rank(answer: str) -> tuple[float, int, tuple[int, ...]]:
        group = groups[answer]
        top = max(w for _, w in group)
        total = math.fsum(w for _, w in group) if summed else top
        # of equal totals, the answer with the shortest candidate (for a single pick: the shortest of the best)
        tied = [e for e, w in group if summed or w == top]
        first = min(tied, key=lambda e: (e.tokens, order(e.path)))
        return (-total, first.tokens, order(first.path))

    ranked = sorted((rank(answer), answer) for answer in groups)
    return [Vote(answer, len(groups[answer]), -total) for (total, *_), answer in ranked]


@dataclass(frozen=True)
class Rule:
    """How a selector weighs entries that have an answer, and whether weights of one answer add up."""

    weigh: Callable[[Selector, Sequence[Entry]], Sequence[float | None]]
    summed: bool
    unit: str
    about: str
    needs_verifier: bool = False
    takes: tuple[str, ...] = ()  # the Selector's fields that are its parameters, but for join
    reads: tuple[str, ...] = ()  # the Entry's fields that a pool has only when asked


def _value(selector: Selector, entry: Entry) -> float | None:
    if selector.join is None or entry.value is None:
        return entry.value
    return selector.join(entry.parts)


def _ones(_: Selector, pool: Sequence[Entry]) -> list[float | None]:
    return [1.0] * len(pool)


def _values(selector: Selector, pool: Sequence[Entry]) -> list[float | None]:
    return [_value(selector, entry) for entry in pool]


def _certainties(_: Selector, pool: Sequence[Entry]) -> list[float | None]:
    return [entry.certainty for entry in pool]


def _logprobs(_: Selector, pool: Sequence[Entry]) -> list[float | None]:
    return [entry.logprob / max(entry.tokens, 1) for entry in pool]


def _borda(selector: Selector, pool: Sequence[Entry]) -> list[float | None]:
    """(N - rank + 1) ** p by self-certainty, rank 1 = surest; p = 0 is majority (arXiv 2502.18581, section 3)."""
    ranked = sorted(range(len(pool)), key=lambda i: (-pool[i].certainty, pool[i].tokens, order(pool[i].path)))
    weights: list[float | None] = [None] * len(pool)
    for rank, i in enumerate(ranked, start=1):
        weights[i] = (len(pool) - rank + 1) ** selector.power
    return weights


def trust(selector: Selector, entry: Entry) -> float | None:
    """DeepConf's confidence of one trace, nats; None where the pool was read without confidences."""
    if entry.confidences is None:
        return None
    return measured(selector.measure, entry.confidences, selector.window)


def _deepconf(selector: Selector, pool: Sequence[Entry]) -> list[float | None]:
    """Of the answered candidates, the surest `keep` vote with their confidence; those that reach the threshold, so that equal
    ones stay together and the surest is always in (arXiv 2508.15260, offline)."""
    trusts = [trust(selector, entry) for entry in pool]
    known = [value for value in trusts if value is not None]
    least = threshold(known, selector.keep) if known else 0.0
    return [value if value is not None and value >= least else None for value in trusts]


def _shortest(_: Selector, pool: Sequence[Entry]) -> list[float | None]:
    return [-float(entry.tokens) for entry in pool]


SELECTORS: dict[str, Rule] = {
    "majority": Rule(_ones, True, "votes", "the answer most candidates gave"),
    "best": Rule(_values, False, "score", "the candidate with the highest score", needs_verifier=True),
    "weighted": Rule(_values, True, "summed score", "the answer with the highest sum of scores", needs_verifier=True),
    "self-certainty": Rule(_certainties, False, "self-certainty", "the candidate the generator was surest of"),
    "borda": Rule(_borda, True, "points", "votes weighted by the rank of self-certainty to a power", takes=("power",)),
    "deepconf": Rule(
        _deepconf,
        True,
        "confidence",
        "votes of the surest candidates, weighted by a group's confidence",
        takes=("measure", "window", "keep"),
        reads=("confidences",),
    ),
    "logprob": Rule(_logprobs, False, "mean ln p", "the candidate with the highest mean log-probability of a token"),
    "shortest": Rule(_shortest, False, "minus tokens", "the candidate with the fewest tokens"),
}


def oracle(pool: Sequence[Entry], right: Callable[[str], bool]) -> bool:
    """Whether any entry is right: the ceiling of selection. For reports only; no search can call it."""
    return any(entry.answer is not None and right(entry.answer) for entry in pool)
