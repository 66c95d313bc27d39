"""Choosing an answer from a pool of solutions: votes, scores, certainty. Shared by all strategies and usable alone.

A selector sees Entries, which a live tree and a stored run both provide, so any selector can be replayed over stored
candidates with no generation. One rule for ties everywhere: fewer tokens, then the earlier path. An entry without an
answer never wins and never votes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .checks import one_of
from .tree import Tree
from .types import Candidate, Choice, Join, Path, Vote, order


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


def entries(tree: Tree, candidates: Sequence[Candidate]) -> list[Entry]:
    """The pool of a live search."""
    pool = []
    for candidate in candidates:
        steps = tree.steps(candidate.path)
        tokens = sum(map(len, steps))
        score = tree.scores.get(candidate.path)
        pool.append(
            Entry(
                path=candidate.path,
                answer=tree.answer(candidate.path).key,
                tokens=tokens,
                certainty=sum(step.certainty * len(step) for step in steps) / max(tokens, 1),
                logprob=sum(step.logprob for step in steps),
                parts=score.parts if score and score.value is not None else (),
                value=score.value if score else None,
            )
        )
    return pool


Weigh = Callable[[Sequence[Entry]], Sequence[float | None]]


@dataclass(frozen=True)
class Selector:
    """A rule of choice by name. `join` re-reads the steps' values (None: as the run joined them). `power`: Borda's."""

    name: str = "majority"
    join: Join | None = None
    power: float = 0.3  # arXiv 2502.18581 recommends 0.3 for up to 16 candidates and 1.2 from 32

    def __post_init__(self) -> None:
        one_of("selector", self.name, SELECTORS)
        if not 0 <= self.power <= 100:
            raise ValueError(f"power must be between 0 and 100, not {self.power}")

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
        best = min((e for e, _ in counted if e.answer == winner), key=lambda e: _merit(e, counted))
        said = f"{self.name}: {rule.unit} {votes[0].weight:.4g} from {votes[0].count} of {len(pool)} candidates"
        return Choice(best.path, winner, said, tuple(votes))

    def __str__(self) -> str:
        return self.name + (f" ({self.join})" if self.join else "")


def _merit(entry: Entry, counted: Sequence[tuple[Entry, float]]) -> tuple[float, int, tuple[int, ...]]:
    weight = next(w for e, w in counted if e is entry)
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

    ranked = sorted(groups, key=rank)
    return [Vote(answer, len(groups[answer]), -rank(answer)[0]) for answer in ranked]


@dataclass(frozen=True)
class Rule:
    """How a selector weighs entries that have an answer, and whether weights of one answer add up."""

    weigh: Callable[[Selector, Sequence[Entry]], Sequence[float | None]]
    summed: bool
    unit: str
    about: str
    needs_verifier: bool = False
    takes_power: bool = False


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


def _shortest(_: Selector, pool: Sequence[Entry]) -> list[float | None]:
    return [-float(entry.tokens) for entry in pool]


SELECTORS: dict[str, Rule] = {
    "majority": Rule(_ones, True, "votes", "the answer most candidates gave"),
    "best": Rule(_values, False, "score", "the candidate with the highest score", needs_verifier=True),
    "weighted": Rule(_values, True, "summed score", "the answer with the highest sum of scores", needs_verifier=True),
    "self-certainty": Rule(_certainties, False, "self-certainty", "the candidate the generator was surest of"),
    "borda": Rule(_borda, True, "points", "votes weighted by the rank of self-certainty to a power", takes_power=True),
    "logprob": Rule(_logprobs, False, "mean ln p", "the candidate with the highest mean log-probability of a token"),
    "shortest": Rule(_shortest, False, "minus tokens", "the candidate with the fewest tokens"),
}


def oracle(pool: Sequence[Entry], right: Callable[[str], bool]) -> bool:
    """Whether any entry is right: the ceiling of selection. For reports only; no search can call it."""
    return any(entry.answer is not None and right(entry.answer) for entry in pool)
