"""Questions about choosing: what each selector would have made of fewer solutions, and where selectors disagree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from search import estimate
from search.estimate import Pool
from search.select import SELECTORS, Entry, Selector
from search.types import order, seed_of

from .. import stats
from ..solutions import INDEPENDENT, allowed
from ..stats import wilson
from .costs import RUN, with_names
from .pool import ROUNDS
from .question import Asked, Col, Question, Row

SAMPLED = 150  # problems of a run that selectors are replayed on
RESAMPLES = 30  # subsets of a size, where all are too many

_SOLUTIONS = f"""
SELECT attempts.run, attempts.problem, attempts.attempt, attempts.tokens AS spent, attempts.problems, solution.path,
       solution.answer, solution.correct, solution.tokens, solution.certainty, solution.logprob, solution.value
FROM (SELECT attempt.run_id AS run, attempt.problem_key AS problem, attempt.id AS attempt, attempt.generated_tokens AS tokens,
             count(*) OVER (PARTITION BY attempt.run_id) AS problems,
             row_number() OVER (PARTITION BY attempt.run_id ORDER BY attempt.problem_key) AS place
      FROM attempt
      WHERE attempt.run_id IN ({{runs}}) AND attempt.solutions IS NOT NULL) AS attempts
LEFT JOIN solution ON solution.attempt_id = attempts.attempt
WHERE attempts.place <= {SAMPLED}
ORDER BY attempts.run, attempts.problem
"""


class _Problem(NamedTuple):
    """One problem of one run."""

    key: str
    spent: int | None  # generated tokens
    problems: int  # of the run
    pool: Pool


def _pools(asked: Asked) -> Iterator[tuple[str, list[_Problem], list[str]]]:
    """Each run with its problems, and the selectors that its solutions allow."""
    for run, rows in asked.by_run().items():
        by_problem: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_problem[row["problem"]].append(row)
        found = [_problem(key, of) for key, of in by_problem.items()]
        scored = any(row["value"] is not None for row in rows)
        measured = any(row["certainty"] is not None for row in rows)
        names = [name for name in allowed(scored, measured) if not SELECTORS[name].reads]
        if any(len(each.pool) for each in found):
            yield run, found, names


def _problem(key: str, rows: Sequence[Row]) -> _Problem:
    there = sorted((row for row in rows if row["path"] is not None), key=lambda row: order(row["path"]))
    right = {row["answer"] for row in there if row["correct"]}
    pool = Pool.of([_entry(row) for row in there], lambda answer: answer in right)
    return _Problem(key, rows[0]["spent"], rows[0]["problems"], pool)


def _entry(row: Row) -> Entry:
    value = row["value"]
    return Entry(
        path=row["path"],
        answer=row["answer"],
        tokens=row["tokens"],
        certainty=0.0 if row["certainty"] is None else row["certainty"],
        logprob=float("-inf") if row["logprob"] is None else row["logprob"],
        parts=() if value is None else (value,),
        value=value,
    )


def _selectors(asked: Asked) -> list[Row]:
    drawn_alone = {run.id: run.spec.strategy.name in INDEPENDENT for run in asked.runs}
    out: list[Row] = []
    for run, problems, names in _pools(asked):
        sizes = _sizes(problems)
        # trees that were written elsewhere have steps, of which several share a beginning
        independent = int(drawn_alone[run] and not any("." in entry.path for each in problems for entry in each.pool.entries))
        spent = [_spent(problems, k) for k in sizes]
        contestants = ("random", *names, "oracle")
        # [problems, contestants x sizes]: one bootstrap for all, which keeps them in pairs
        right = np.array([[value for name in contestants for value in _curve(each, name, sizes)] for each in problems])
        drawn = stats.resampled_means(right, ROUNDS)
        for i, (name, k) in enumerate(product(contestants, sizes)):
            accuracy = float(right[:, i].mean())
            low, high = stats.mean_interval(right[:, i], accuracy, len(problems), drawn[:, i])
            row: Row = {"run": run, "selector": name, "k": k, "accuracy": accuracy, "low": low, "high": high}
            row |= {"tokens": spent[i % len(sizes)], "independent": independent, "problems": len(problems)}
            out.append({**row, "of": problems[0].problems})
    return with_names(asked, out)


def _sizes(problems: Sequence[_Problem]) -> list[int]:
    """Powers of two, and the largest size that every pool has which is not empty."""
    smallest = min(len(each.pool) for each in problems if len(each.pool))
    return sorted({1 << i for i in range(smallest.bit_length())} | {smallest})


def _spent(problems: Sequence[_Problem], k: int) -> float | None:
    """Generated tokens a problem: a subset's share of all that was generated."""
    if any(each.spent is None for each in problems):
        return None
    return float(np.mean([(each.spent or 0) * min(k / max(len(each.pool), 1), 1.0) for each in problems]))


def _curve(of: _Problem, name: str, sizes: Sequence[int]) -> list[float]:
    if not len(of.pool):
        return [0.0] * len(sizes)
    if name in estimate.ENDS:
        return [estimate.ENDS[name](of.pool, k).expected for k in sizes]
    found = estimate.estimates(of.pool, Selector(name), sizes, RESAMPLES, seed_of(0, of.key, ""))
    return [each.expected for each in found]


SELECT = Question(
    name="selectors",
    title="Selectors against the number of solutions",
    asks="What would another selector, or half the budget, have bought?",
    says="Each selector over subsets of k of a problem's solutions; ties are split evenly. Where solutions were drawn "
    "regardless of "
    "each other, k is what the run would have been with n = k; of a search tree it is a choice among what the search "
    "has left. Where each problem came out right or wrong, the interval is Wilson's, as of an accuracy.",
    sql=_SOLUTIONS,
    columns={
        **RUN,
        "selector": Col("random and oracle are the ends of the scale"),
        "k": Col("solutions that it chooses from", "count"),
        "accuracy": Col("mean over problems; higher is better", "share", "low", "high"),
        "low": Col("of the 95% interval (bootstrap over problems, or Wilson)", "share"),
        "high": Col("of the 95% interval (bootstrap over problems, or Wilson)", "share"),
        "tokens": Col("generated tokens a problem: the share k / n of what the search generated", "number"),
        "independent": Col("1 = solutions were drawn regardless of each other; of imported ones that is believed", "count"),
        "problems": Col(f"that it rests on: at most {SAMPLED}, those of the smallest keys, which are hashes", "count"),
        "of": Col("finished problems of the run", "count"),
    },
    make=_selectors,
    needs="solutions that are judged",
    computed=f"each selector's chance over subsets (closed forms; at most {RESAMPLES} subsets where it votes), its "
    f"mean, and a bootstrap over problems ({ROUNDS:,} resamples, seed 0); Wilson's interval where each problem has 0 or 1, or "
    "all are alike",
)


def _disagreement(asked: Asked) -> list[Row]:
    out: list[Row] = []
    for run, problems, names in _pools(asked):
        chosen = {name: [_chosen(each.pool, name) for each in problems] for name in names}
        for first, second in combinations(names, 2):
            pairs = list(zip(chosen[first], chosen[second], strict=True))
            differ = [(a, b) for a, b in pairs if a[0] != b[0]]
            low, high = wilson(len(differ), len(pairs))
            only = (sum(a[1] and not b[1] for a, b in differ), sum(b[1] and not a[1] for a, b in differ))
            out.append(
                {
                    "run": run,
                    "first": first,
                    "second": second,
                    "problems": len(pairs),
                    "differ": len(differ),
                    "share": len(differ) / len(pairs),
                    "low": low,
                    "high": high,
                    "first_right": only[0],
                    "second_right": only[1],
                    "neither_right": sum(not a[1] and not b[1] for a, b in differ),
                    "p": stats.mcnemar(*only),
                }
            )
    adjusted = stats.holm([row["p"] for row in out])
    return with_names(asked, [{**row, "p_holm": p} for row, p in zip(out, adjusted, strict=True)])


def _chosen(pool: Pool, name: str) -> tuple[str | None, bool]:
    """The answer that a selector takes of the whole pool, and whether it is right."""
    choice = Selector(name)(pool.entries)
    found = next((i for i, entry in enumerate(pool.entries) if entry.path == choice.path), None)
    return choice.answer, found is not None and bool(pool.hits[found])


DISAGREEMENT = Question(
    name="disagreement",
    title="Disagreement of selectors",
    asks="On how many problems do two selectors choose different answers, and who is right?",
    says="Each over all solutions of a problem. p is McNemar's exact test of who is right more often, p (Holm) "
    "corrected for all pairs.",
    sql=_SOLUTIONS,
    columns={
        **RUN,
        "first": Col("selector"),
        "second": Col("selector"),
        "problems": Col(f"that it rests on: at most {SAMPLED}, those of the smallest keys, which are hashes", "count"),
        "differ": Col("problems on which they choose different answers", "count"),
        "share": Col("of the problems", "share", "low", "high"),
        "low": Col("of the 95% interval (Wilson)", "share"),
        "high": Col("of the 95% interval (Wilson)", "share"),
        "first_right": Col("of those that differ: the first alone is right", "count"),
        "second_right": Col("of those that differ: the second alone is right", "count"),
        "neither_right": Col("of those that differ: neither is", "count"),
        "p": Col("two-sided, McNemar's exact test", "share"),
        "p_holm": Col("corrected for the number of pairs (Holm)", "share"),
    },
    make=_disagreement,
    needs="solutions that are judged, and two selectors for them",
    computed="each selector's choice over a problem's solutions, counts, tests",
)

__all__ = ["DISAGREEMENT", "SAMPLED", "SELECT"]
