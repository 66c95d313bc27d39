"""`ponderosa reselect`: any selector at any size over the stored candidates of one run, with no generation."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from flows.parts import count, part
from flows.tables import console, number, table
from search.checks import one_of
from search.select import Selector
from search.strategies import chosen
from search.types import Join, Problem
from store import queries
from store.database import Database
from store.imported import IMPORTED
from store.pools import Signal
from store.reselect import Plan, Reselection, Size, planned_for, rejoined, reselect
from store.runs import Run, find_run
from store.solutions import Pools, pools_of
from verifiers.grade import Graders, Verdict
from verifiers.registry import load_verifier, signals

LEGEND = (
    "accuracy: over subsets of n, ties split evenly; by rule: ties to fewer tokens, then the earlier path, as a run decides",
    "95% interval: bootstrap over problems, or Wilson's where each is right or wrong",
    "none: subsets in which nobody answers, or nobody with a score; they count as wrong",
    "tokens and passes: a problem's, as the share n / pool of what its search cost; ~: over random subsets, not all of them",
)


def judge(graders: Graders) -> Callable[[Problem, str], bool]:
    """What `reselect` asks of each distinct answer of a problem."""
    return lambda problem, answer: graders.grade(problem, answer) is Verdict.CORRECT


def parsed(selectors: Sequence[str], sizes: str | None, budgets: Sequence[str]) -> tuple[list[Selector], list[Size], list[int]]:
    """The words of the command line. ValueError in one line for any that say nothing."""
    parts = [part(text) for text in selectors]
    wanted: list[Size] = []
    for word in [] if sizes is None else sizes.split(","):
        wanted.append(None if word.strip() == "all" else count(word.strip()))
    return [chosen(each.name, each.params) for each in parts], wanted, [count(budget) for budget in budgets]


def run(
    opened: Database,
    wanted: str,
    selectors: Sequence[str],
    join: str | None,
    sizes: str | None,
    budgets: Sequence[str],
    resamples: int,
    seed: int,
    verifier: str | None,
    json: bool,
) -> None:
    """Estimates and prints."""
    words = parsed(selectors, sizes, budgets)
    if join is not None:
        one_of("join", join, list(Join))
    found = find_run(opened, wanted)
    have = pools_of(opened, found)
    signal = signal_of(verifier, queries.verifiers(opened, found.id))
    have = replace(have, scored=have.scored or signal is not None)
    named = None if signal else verifier
    plan = replace(planned_for(have, *words, resamples), seed=seed, verifier=named, signal=signal)
    plan = rejoined(plan, None if join is None else Join(join))
    with Graders() as graders:
        made = reselect(opened, found, plan, judge(graders))
    (_print_json if json else _print)(found, have, plan, made)


def signal_of(verifier: str | None, stored: Sequence[str]) -> Signal | None:
    """The signal that a verifier's words name, to be computed over the stored statistics; None where the words are of one whose
    scores are stored, or there are none. ValueError for any other verifier: its model would have to run."""
    if verifier is None or verifier in stored:
        return None
    words = part(verifier)
    one_of("verifier", words.name, [*stored, *signals()])
    if words.name not in signals():
        have = f"its scores are {', '.join(stored)}" if stored else "it has no scores"
        raise ValueError(f"the run was not scored by '{verifier}': {have}; `ponderosa rescore` adds some")
    return Signal(*load_verifier(words))


def about(have: Pools) -> str:
    """One line: what the pools are, and what a subset of them stands for."""
    low, high = min(have.sizes), max(have.sizes)
    many = f"{low}" if low == high else f"{low} to {high}"
    if have.independent:
        of = "independent" if have.strategy != IMPORTED else "imported"
        if_so = "" if of == "independent" else ", if each was drawn without regard to the others"
        said = f"{many} {of} solutions a problem: n of them are what the strategy draws with n{if_so}"
    else:
        said = (
            f"{many} whole solutions a problem that {have.strategy} ended or cut, pruned ones too; they may depend on each "
            "other, so n of them need not be what a smaller search would find"
        )
    return said + (f"; {have.pending} unfinished problems are left out" if have.pending else "")


def _print(found: Run, have: Pools, plan: Plan, made: Reselection) -> None:
    out = console()
    out.print(f"run    {found.id} {found.name}\npool   {made.problems} problems, {about(have)}")
    if found.spec.budget.tokens is not None:
        out.print(f"       cut by the run's own budget of {found.spec.budget.tokens:,} tokens a problem")
    if plan.signal:
        out.print(f"       scored by {plan.signal.verifier.name}, from the stored statistics of tokens")
    if made.source:
        out.print(f"       deepconf read each token's {made.source}" + (", for want of top-k" if "self" in made.source else ""))
    columns = ("selector", ">n", ">accuracy", ">by rule", ">95% interval", ">none", ">tokens", ">passes")
    shown = table(*columns)
    for row in made.rows:
        size = f"{row.budget:,} tokens" if row.budget is not None else "all" if row.n is None else str(row.n)
        shown.add_row(
            row.selector,
            size,
            ("~" if row.sampled else "") + number(row.accuracy, 3),
            number(row.by_rule, 3),
            f"[{row.low:.3f}, {row.high:.3f}]",
            number(row.abstains, 3),
            number(row.tokens),
            number(row.passes, 1),
        )
    out.print()
    out.print(shown)
    for line in LEGEND:
        out.print(line)


def _print_json(found: Run, have: Pools, plan: Plan, made: Reselection) -> None:
    told = {
        "run": found.id,
        "name": found.name,
        "pool": {**asdict(have), "independent": have.independent},
        "problems": made.problems,
        "confidences": made.source or None,
        "signal": plan.signal.verifier.name if plan.signal else None,
        "resamples": plan.resamples,
        "seed": plan.seed,
        "rows": [asdict(row) for row in made.rows],
    }
    sys.stdout.write(jsonlib.dumps(told) + "\n")


__all__ = ["about", "judge", "parsed", "run", "signal_of"]
