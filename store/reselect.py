"""Generate once, select many: any selector at any size over the stored candidates of one run, with no generation.

    rows = reselect(db, run, planned_for(pools_of(db, run)), right).rows

`right(problem, answer)` judges an answer; it is asked once for each distinct answer of a problem. The estimates are those of
search.estimate: over subsets of each problem's pool of whole solutions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from search import estimate
from search.estimate import Estimate, Pool
from search.resample import exact
from search.select import SELECTORS, Selector
from search.types import Join, Problem, seed_of

from . import stats
from .database import Database
from .pools import Signal, lacking
from .runs import Run
from .solutions import Pools, Solutions, allowed, pools_of, solutions

ROUNDS = 2_000  # of the bootstrap over problems

Right = Callable[[Problem, str], bool]
Size = int | None  # of a subset; None = the whole pool, whatever its size


@dataclass(frozen=True, slots=True)
class Plan:
    """What to estimate."""

    selectors: tuple[Selector, ...]
    sizes: tuple[Size, ...] = ()
    budgets: tuple[int, ...] = ()  # generated tokens: the first solutions that fit
    resamples: int = 100  # random subsets for a selector that votes, where all are too many
    seed: int = 0
    verifier: str | None = None  # whose scores, where several have scored the run
    signal: Signal | None = None  # instead of stored scores: those that this computes from the stored statistics of tokens

    @property
    def confidences(self) -> bool:
        return any("confidences" in SELECTORS[selector.name].reads for selector in self.selectors)


@dataclass(frozen=True, slots=True)
class Row:
    """One selector at one size or budget: means over the problems. Shares are in [0, 1]."""

    selector: str
    n: Size
    budget: int | None
    accuracy: float  # ties split evenly
    by_rule: float  # ties to fewer tokens, then the earlier path
    low: float  # 95% interval of the accuracy: bootstrap over problems; Wilson's where they are all alike
    high: float
    abstains: float  # share of subsets without a choice
    tokens: float | None  # generated; None = not known
    passes: float  # of the verifier
    candidates: float
    sampled: bool  # over random subsets: then the interval has their noise in it too


@dataclass(frozen=True, slots=True)
class Reselection:
    rows: list[Row]
    problems: int
    source: str  # what the confidences of deepconf are; '' where it was not asked


def planned_for(
    have: Pools,
    selectors: Sequence[Selector] = (),
    sizes: Sequence[Size] = (),
    budgets: Sequence[int] = (),
    resamples: int = 100,
) -> Plan:
    """The plan: all selectors that the data allow, at powers of two, where none are named. ValueError in one line for what the
    pools cannot serve."""
    if not have.smallest:
        raise ValueError(f"no solution of the {len(have.sizes)} finished problems is whole; there is nothing to select from")
    known = allowed(have.scored, have.measured)
    for selector in selectors:
        if selector.name not in known:
            lacks = "a verifier's scores" if SELECTORS[selector.name].needs_verifier else "statistics of tokens"
            raise ValueError(f"selector '{selector.name}' needs {lacks}, and the run has none (it allows {', '.join(known)})")
    for n in sizes:
        if n is not None and not 1 <= n <= have.smallest:
            raise ValueError(f"n={n} cannot be drawn from every pool; the largest possible is {have.smallest}, the least 1")
    if budgets and not have.independent:
        raise ValueError(f"a budget is replayed over independent solutions, and those of {have.strategy} are not; leave it out")
    if budgets and min(budgets) < 1:
        raise ValueError(f"a budget must be at least 1 token, not {min(budgets)}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    every = tuple(selectors) or tuple(Selector(name) for name in known)
    return Plan(every, tuple(sizes) or (() if budgets else _powers(have)), tuple(budgets), resamples)


def _powers(have: Pools) -> tuple[Size, ...]:
    """Powers of two, the smallest pool, and, where pools differ in size, all of each."""
    sizes = sorted({have.smallest, *(1 << i for i in range(have.smallest.bit_length()))})
    return (*sizes, None) if len(set(have.sizes)) > 1 else tuple(sizes)


def reselect(db: Database, run: Run, plan: Plan, right: Right) -> Reselection:
    """A row for each selector at each size and budget, between the ends of the scale: random and oracle. ValueError where the
    plan has a signal that finds nothing stored to go by."""
    have, found, source = pools_of(db, run), [], ""
    if plan.signal is not None and (reason := lacking(db, run.id, plan.signal)):
        raise ValueError(f"verifier '{plan.signal.verifier.name}' cannot score run {run.id}: {reason}")
    for each in solutions(db, run, plan.verifier, plan.confidences, plan.signal):
        source = source or next((entry.source for entry in each.entries), "")
        found.append(_cells(each, plan, have, right))
    values = np.array(found)  # [problems, cells, fields of _cell]
    rounds = stats.resampled_means(values[:, :, 0], ROUNDS, plan.seed)
    rows = []
    for i, (contestant, at) in enumerate((c, at) for c in _contestants(plan) for at in _places(plan)):
        accuracy, by_rule, abstains, tokens, passes, candidates = values[:, i].mean(axis=0).tolist()
        low, high = stats.mean_interval(values[:, i, 0], accuracy, len(found), rounds[:, i])
        known = None if np.isnan(tokens) else tokens
        sampled = _sampled(contestant, at, plan, have)
        cell = (accuracy, by_rule, low, high, abstains, known, passes, candidates, sampled)
        rows.append(Row(named(contestant), at.n, at.budget, *cell))
    return Reselection(rows, len(found), source)


def named(contestant: Selector | str) -> str:
    """The selector as NAME:KEY=VALUE,..., with what is not its default."""
    if isinstance(contestant, str):
        return contestant
    takes = ("join", *SELECTORS[contestant.name].takes)
    given = {key: getattr(contestant, key) for key in takes if getattr(contestant, key) != getattr(Selector(), key)}
    return contestant.name + (":" + ",".join(f"{key}={value}" for key, value in given.items()) if given else "")


# ------------------------------------------------------------------------------------------------------------ internals


@dataclass(frozen=True, slots=True)
class _Place:
    n: Size = None
    budget: int | None = None


def _contestants(plan: Plan) -> list[Selector | str]:
    return ["random", *plan.selectors, "oracle"]


def _places(plan: Plan) -> list[_Place]:
    return [_Place(n=n) for n in plan.sizes] + [_Place(budget=budget) for budget in plan.budgets]


def _sampled(contestant: Selector | str, at: _Place, plan: Plan, have: Pools) -> bool:
    """Whether the estimate is over random subsets: closed forms, whole pools and few subsets are not."""
    if at.n is None or isinstance(contestant, str) or not SELECTORS[contestant.name].summed:
        return False
    return not all(exact(n, at.n, plan.resamples) for n in set(have.sizes) if n)


def _cells(of: Solutions, plan: Plan, have: Pools, right: Right) -> list[list[float]]:
    """One problem at each contestant and place: accuracy, by rule, abstains, tokens, passes, candidates."""
    verdicts: dict[str, bool] = {}

    def judged(answer: str) -> bool:
        return verdicts[answer] if answer in verdicts else verdicts.setdefault(answer, right(of.problem, answer))

    whole = Pool.of(of.entries, judged)
    sums = list(accumulate(entry.tokens for entry in of.entries))
    fits = [bisect_right(sums, budget) for budget in plan.budgets]
    heads = [Pool.of(of.entries[:n], judged) for n in fits]
    sizes = [min(len(whole), n or len(whole)) for n in plan.sizes]
    seed = seed_of(plan.seed, of.problem.id, "")
    cells = []
    for contestant in _contestants(plan):
        found = _estimates(contestant, whole, sizes, plan, seed)
        found += [_estimates(contestant, head, [len(head)], plan, seed)[0] for head in heads]
        for (n, spent), each in zip(_spent(of, sizes, fits, sums), found, strict=True):
            scored = isinstance(contestant, Selector) and SELECTORS[contestant.name].needs_verifier and plan.signal is None
            free = have.independent and not scored
            share = n / len(whole) if len(whole) else 1.0
            passes = 0.0 if free else (of.passes or 0.0) * share
            cells.append([each.expected, each.by_rule, each.abstains, spent, passes, float(n)])
    return cells


def _estimates(contestant: Selector | str, pool: Pool, sizes: Sequence[int], plan: Plan, seed: int) -> list[Estimate]:
    if not len(pool):
        return [Estimate(0.0, 0.0, 1.0) for _ in sizes]
    if isinstance(contestant, str):
        return [estimate.ENDS[contestant](pool, n) for n in sizes]
    return estimate.estimates(pool, contestant, sizes, plan.resamples, seed)


def _spent(of: Solutions, sizes: Sequence[int], fits: Sequence[int], sums: Sequence[int]) -> list[tuple[int, float]]:
    """How many solutions each size and budget has, and the tokens they cost: a subset's share of all that was generated."""
    total = of.tokens if of.tokens is not None else float(sums[-1]) if sums and sums[-1] else float("nan")
    shared = [(n, total * n / len(sums) if sums else total) for n in sizes]
    return shared + [(n, float(sums[n - 1]) if n else 0.0) for n in fits]


def rejoined(plan: Plan, join: Join | None) -> Plan:
    """The plan with the scores of steps read by another rule, where a selector names none of its own."""
    if join is None:
        return plan
    reads = [replace(s, join=join) if SELECTORS[s.name].needs_verifier and s.join is None else s for s in plan.selectors]
    return replace(plan, selectors=tuple(reads))
