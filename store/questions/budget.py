"""Which run is the best one that costs no more than so many tokens?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..compare import side
from .costs import ACCURACY, RUN
from .paired import sets_of, tied_with
from .question import Asked, Col, Question, Row

LADDER = (50, 100, 250, 500, *(of * 10**power for power in (3, 4, 5) for of in (1, 2, 5)), 10**6)  # generated tokens a problem

NAMED = 3  # runs that cannot be told apart from the best are named, up to so many


def budgets_of(rows: list[Row]) -> list[int]:
    """The rungs of the ladder from the cheapest run to the first that all runs are below; and 1,000 in any case."""
    tokens = [row["tokens"] for row in rows if row["tokens"] is not None]
    if not tokens:
        return []
    top = next((rung for rung in LADDER if rung >= max(tokens)), LADDER[-1])
    return [rung for rung in LADDER if (min(tokens) <= rung <= top) or (rung == 1000 and min(tokens) <= 1000)]


def _best(asked: Asked) -> list[Row]:
    rows = [row for row in ACCURACY.make(asked) if row.get("accuracy") is not None]
    out: list[Row] = []
    for runs in sets_of(asked.runs).values():
        known = {row["run"] for row in rows}
        first = {replace(run.spec, seed=0).id: run for run in reversed(runs) if run.id in known}.values()
        sides = {run.id: side(asked.db, [run]) for run in first}
        mine = [row for row in rows if row["run"] in sides]
        before: Row | None = None
        for budget in budgets_of(mine):
            within = [row for row in mine if row["tokens"] is not None and row["tokens"] <= budget]
            if not within:
                continue
            best = min(within, key=_rank)
            if before is None or before["run"] != best["run"] or before["within"] != len(within):
                others = sorted((row for row in within if row is not best), key=_rank)
                tied = tied_with(sides[best["run"]], [sides[row["run"]] for row in others])
                alike = [row["name"] for row, same in zip(others, tied, strict=True) if same]
                told = {"within": len(within), "tied": len(alike), "alike": listed(alike) or None}
                before = {**best, "problems": best["closed"], "of": best["problems"], **told}
            out.append({**before, "budget": budget})
    return out


def _rank(row: Row) -> tuple[float, float]:
    """The most accurate first, and of equals the cheapest."""
    return -row["accuracy"], row["tokens"]


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many there are beside."""
    shown, more = names[:NAMED], len(names) - NAMED
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join([", ".join(shown[:-1])] * (len(shown) > 1) + list(shown[-1:]))


BEST = Question(
    name="best",
    title="Best at a budget",
    asks="Which run is best at so many tokens a problem?",
    says="Of the runs that generated no more than the budget, the most accurate, and how many of the others cannot be "
    "told apart from it: pairs over the same problems, McNemar's test with Holm's correction, at the level of 5%. Of "
    "runs that differ in the seed alone the first counts: else the best would be the luckiest.",
    sql=ACCURACY.sql,
    columns={
        "problem_set": Col("what was asked"),
        "budget": Col("generated tokens a problem, at most", "count"),
        **RUN,
        "accuracy": Col("of the best; higher is better", "share", "low", "high"),
        "low": Col("of the 95% interval (Wilson)", "share"),
        "high": Col("of the 95% interval (Wilson)", "share"),
        "tokens": Col("that it generated, a problem", "number"),
        "problems": Col("finished ones, by which a run is ranked", "count"),
        "of": Col("problems in the run: where these are more, it is not over, and its rank may change", "count"),
        "within": Col("runs within the budget", "count"),
        "tied": Col("of these, beside the best: those that cannot be told apart from it", "count"),
        "alike": Col(f"their names, the most accurate first; of more than {NAMED} the others are counted"),
    },
    make=_best,
    wants="a run that was graded and whose generated tokens were counted",
    computed="the most accurate run within each budget, and tests of it against the others",
)

__all__ = ["BEST", "LADDER", "budgets_of"]
