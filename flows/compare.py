"""`ponderosa compare`: runs over the same problems, every later one with the first."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from flows.reselect import judge
from flows.tables import console, number
from search.checks import one_of
from store.compare import FEW, UNITS, Comparison, Interval, Side, adjusted, common, paired, side
from store.database import Database
from store.equal_cost import CLOSE, Equal, at_equal_cost
from store.runs import find_run
from verifiers.grade import Graders

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def run(opened: Database, wanted: Sequence[str], cost: str, intersect: bool, resamples: int, seed: int, json: bool) -> None:
    """Compares and prints."""
    one_of("cost", cost, UNITS)
    if not 2 <= len(wanted) <= len(LETTERS):
        raise ValueError(f"compare needs 2 to {len(LETTERS)} runs, not {len(wanted)}; join seeds of one with '+'")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    sides = [side(opened, [find_run(opened, name) for name in group.split("+")]) for group in wanted]
    keys = common(sides, intersect)
    first = sides[0]
    pairs = adjusted([paired(first, other, keys, resamples, seed) for other in sides[1:]])
    with Graders() as graders:
        right = judge(graders)
        equal = [at_equal_cost(opened, first, other, keys, cost, right, resamples, seed) for other in sides[1:]]
    if json:
        _print_json(sides, pairs, equal)
        return
    out = console()
    few = f"; fewer than {FEW}, so the intervals say little" if len(keys) < FEW else ""
    out.print(f"problems  {len(keys)} that all have finished{few}")
    for letter, each in zip(LETTERS, sides, strict=False):
        out.print(f"{letter}         {each.name}")
    for letter, pair, same in zip(LETTERS[1:], pairs, equal, strict=False):
        out.print()
        _print_pair(out, letter, pair)
        out.print(_at_cost(letter, same))


def _span(of: Interval, digits: int = 3, sign: str = "+") -> str:
    value, low, high = of
    return f"{value:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def _print_pair(out: Console, letter: str, of: Comparison) -> None:
    out.print(f"accuracy  A {of.first:.3f}, {letter} {of.second:.3f}")
    out.print(f"{letter} - A     {_span(of.difference)}, bootstrap p {of.p:.4f}")
    if of.exact_p is not None:
        out.print(f"McNemar   only A right {of.only_first}, only {letter} right {of.only_second}, exact p {of.exact_p:.4f}")
    if of.holm is not None:
        which = "exact" if of.exact_p is not None else "bootstrap"
        out.print(f"Holm      p {of.holm:.4f}: the {which} p, for all comparisons together")
    told = [f"{unit} {'–' if ratio is None else _span(ratio, 2, '')}" for unit, ratio in of.ratios.items()]
    out.print(f"{letter} / A     " + ", ".join(told))


def _at_cost(letter: str, of: Equal) -> str:
    if of.already:
        return f"equal     the costs in {of.unit} are within {CLOSE:.0%}: this is a comparison at equal cost"
    if of.reason:
        return f"equal     no: {of.reason}; this is not a comparison at equal cost"
    assert of.difference is not None
    who = letter if of.reduced == "second" else "A"
    return (
        f"equal     at {number(of.cost)} {of.unit} each, {who} cut to {of.k:.2f} of its {of.n} solutions: A {of.first:.3f}, "
        f"{letter} {of.second:.3f}; {letter} - A {_span(of.difference)}, bootstrap p {of.p:.4f}"
    )


def _print_json(sides: Sequence[Side], pairs: Sequence[Comparison], equal: Sequence[Equal]) -> None:
    told = {
        "problems": pairs[0].problems,
        "few": pairs[0].problems < FEW,
        "sides": [[run.id for run in each.runs] for each in sides],
        "comparisons": [{**asdict(pair), "equal_cost": asdict(same)} for pair, same in zip(pairs, equal, strict=True)],
    }
    sys.stdout.write(jsonlib.dumps(told) + "\n")


__all__ = ["run"]
