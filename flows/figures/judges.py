"""Generative verifiers beside self-consistency at equal compute, on held-out problems.

    python -m flows.figures.judges                              # word and countdown, 100 problems each
    python -m flows.figures.judges --families word --judge FOLDER

Of each problem a pool of whole solutions is drawn once; every selector is given random subsets of S of it, without bias. A
solution's score with V checks is the mean of its first V verdicts. The cost of S solutions with V checks each is S (1 + lambda
V) solutions (arXiv 2504.01005), lambda being measured: tokens written for a check over tokens of a solution; the tokens of the
checks' prompts are told beside it and are not in the cost. Beside every point stands self-consistency with as many solutions as
that costs, from the same pool. Intervals are a bootstrap over problems; differences are paired.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flows.figures.measured import Point, Span, accuracies, difference, said
from flows.figures.pooled import Drawn, solved, stepwise, verdicts
from flows.parts import spec
from flows.tables import console, table
from pipelines.models import BUNDLED
from pipelines.train.card import add_figures
from search.estimate import Pool, estimates
from search.select import Entry, Selector
from search.types import Part
from verifiers.canary import Canaries, canaries
from verifiers.generative import Checks, Generative
from verifiers.registry import load_verifier

SIZES, CHECKS = (2, 4, 8), (1, 2, 4)  # S and V
JUDGED = 12  # solutions of a problem that are checked
FOOLED = 5  # problems that null answers are put to


def cost(s: float, v: float, ratio: float) -> float:
    """S (1 + lambda V), in solutions."""
    return s * (1 + ratio * v)


def scored(pool: Sequence[Entry], checks: Sequence[Checks], v: int) -> list[Entry]:
    """The entries with the mean of each one's first v verdicts: no verdict counts as a no, none at all is no value. With v = 0
    every solution has the same, which makes a weighted vote the plain one."""
    return [replace(entry, value=_mean(each, v)) for entry, each in zip(pool, checks, strict=True)]


def _mean(checks: Checks, v: int) -> float | None:
    if not v:
        return 1.0
    values = checks.values[:v]
    if all(value is None for value in values):
        return None
    return math.fsum(value[0] for value in values if value is not None) / v


def curve(name: str, selector: Selector, pools: Sequence[Pool], sizes: Sequence[int]) -> dict[int, Point]:
    """The selector with S of each pool, for each S."""
    right = np.array([[found.by_rule for found in estimates(pool, selector, sizes)] for pool in pools])
    none = np.zeros(len(pools))
    return {s: Point(f"{name} {s}", right[:, i], none, none) for i, s in enumerate(sizes)}


def at(votes: Mapping[int, Point], solutions: float) -> Point | None:
    """Self-consistency with that many solutions, linear between two whole numbers; None beyond the pool."""
    low, high = math.floor(solutions), math.ceil(solutions)
    if high not in votes:
        return None
    share = solutions - low
    return replace(votes[low], right=(1 - share) * votes[low].right + share * votes[high].right)


def _rows(flat: Sequence[Any], of: int) -> list[Sequence[Any]]:
    return [flat[i : i + of] for i in range(0, len(flat), of)]


@dataclass(frozen=True)
class Line:
    """A row of the table: a way to choose, what it costs, and self-consistency at that cost."""

    name: str
    units: float
    accuracy: Span
    votes: Span | None  # self-consistency's accuracy at the same cost; None where the pool is too small
    minus: Span | None  # accuracy minus that, paired


def lines(found: Sequence[tuple[Point, float]], votes: Mapping[int, Point]) -> Iterator[Line]:
    for point, units in found:
        other = at(votes, max(units, 1.0))
        own = accuracies([point])[0]
        yield Line(
            point.name, units, own, *((None, None) if other is None else (accuracies([other])[0], difference(point, other)))
        )


def discriminative(drawn: Drawn) -> list[tuple[Point, float]]:
    """The bundled reward model: one pass a solution, no token written."""
    model, join = load_verifier(Part("prm"))
    readings = model.score(drawn.traces(JUDGED))
    of = [
        [replace(entry, value=join(reading.parts) if reading.parts else None) for entry, reading in zip(*pair, strict=True)]
        for pair in zip(drawn.entries(JUDGED), _rows(readings, JUDGED), strict=True)
    ]
    pools = drawn.pools(of)
    best, weighted = (curve(f"prm {name}", Selector(name), pools, SIZES) for name in ("best", "weighted"))
    return [(each[s], float(s)) for each in (best, weighted) for s in SIZES]


def knocked(drawn: Drawn, count: int, judge: str, generator: str) -> list[tuple[Point, float]]:
    """The tournament, a search of its own a problem."""
    found = []
    for n in SIZES[-1:]:
        strategy = f"knockout:n={n},by=small"
        words = spec(f"{drawn.family}:split=test,count={count},seed=1", strategy, "equation", generator, small=judge)
        outcomes = solved(drawn.problems, words)
        answers = [None if o.choice is None else o.choice.answer for o in outcomes]
        right = [float(a is not None and drawn.right(p, a)) for p, a in zip(drawn.problems, answers, strict=True)]
        units = float(np.mean([o.search.tree.usage.generated_tokens for o in outcomes])) / drawn.tokens
        none = np.zeros(len(right))
        found.append((Point(f"knockout {n}", np.array(right), none, none), units))
    return found


def family(drawn: Drawn, options: argparse.Namespace) -> dict[str, Any]:
    judge = _judge("genrm", options.judge, v=max(CHECKS))
    checks = judge.checks(drawn.traces(JUDGED))
    many = len(checks) * judge.v
    ratio = sum(c.written for c in checks) / many / drawn.tokens
    plain = drawn.entries(JUDGED)
    votes = curve(
        "self-consistency", Selector("majority"), drawn.pools(drawn.entries(options.samples)), range(1, options.samples + 1)
    )
    found: list[tuple[Point, float]] = []
    for name in ("best", "weighted"):
        for v in CHECKS:
            pools = drawn.pools([scored(own, row, v) for own, row in zip(plain, _rows(checks, JUDGED), strict=True)])
            points = curve(f"genrm {name} V={v}", Selector(name), pools, SIZES)
            found += [(points[s], cost(s, v, ratio)) for s in SIZES]
    found += discriminative(drawn) + knocked(drawn, options.problems, options.judge, options.generator)
    fooled = canaries(judge, load_verifier(Part("equation"))[1], [o.search.tree.question for o in drawn.outcomes[:FOOLED]])
    return {
        "lambda": ratio,
        "solution tokens": drawn.tokens,
        "check tokens": ratio * drawn.tokens,
        "prompt tokens": sum(c.prompt_tokens for c in checks) / len(checks),
        "self-consistency": {s: accuracies([votes[s]])[0] for s in (1, *SIZES, options.samples)},
        "lines": list(lines(found, votes)),
        "verdicts": {
            "after a check": verdicts(drawn, checks, JUDGED),
            "at once": verdicts(
                drawn, _judge("judge", options.judge, v=1, prompt="direct").checks(drawn.traces(JUDGED)), JUDGED
            ),
        },
        "steps": stepwise(drawn, _judge("thinkprm", options.judge, v=1), JUDGED),
        "canaries": fooled,
    }


def _judge(kind: str, model: str, **params: Any) -> Generative:
    prompt = {} if "prompt" in params else {"prompt": "check"}
    verifier, _ = load_verifier(Part(kind, {"model": model, **params, **prompt}))
    assert isinstance(verifier, Generative)
    return verifier


def show(title: str, found: Mapping[str, Any]) -> None:
    out = console()
    made = table("name S", ">cost", ">accuracy", ">95%", ">votes at that cost", ">95%", ">minus", ">95%", title=f"\n{title}")
    for line in found["lines"]:
        beside = said(line.votes, 3) if line.votes else ("-", "")
        made.add_row(
            line.name,
            f"{line.units:.1f}",
            *said(line.accuracy, 3),
            *beside,
            *(said(line.minus, 3, "+") if line.minus else ("-", "")),
        )
    out.print(made)
    votes = ", ".join(f"{s}: {said(span, 3)[0]}" for s, span in found["self-consistency"].items())
    out.print(f"self-consistency by solutions: {votes}")
    shown = ", ".join(f"{key} {found[key]:.3g}" for key in ("lambda", "solution tokens", "check tokens", "prompt tokens"))
    out.print(f"{shown}; AUC of verdicts on steps {found['steps']:.3f}")
    for how, each in found["verdicts"].items():
        out.print(f"verdicts {how}: " + ", ".join(f"{key} {value:.3f}" for key, value in each.items()))
    fooled: Canaries = found["canaries"]
    out.print(f"canaries: {fooled} ({fooled.rate:.1%})")


def own(found: Mapping[str, Any]) -> dict[str, float]:
    """The figures that are the judge's alone, for its card."""
    told = {f"verdicts {how}, {key}": value for how, each in found["verdicts"].items() for key, value in each.items()}
    told |= {"AUC of verdicts on steps": found["steps"], "lambda": found["lambda"], "canaries accepted": found["canaries"].rate}
    return {key: round(float(value), 3) for key, value in told.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["word", "countdown"])
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--samples", type=int, default=48, help="of each problem, for self-consistency")
    parser.add_argument("--judge", default="bundled-judge")
    parser.add_argument("--generator", default="bundled")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="put the judge's own figures into its card")
    options = parser.parse_args()
    records = {}
    for name in options.families:
        drawn = Drawn.of(name, options.problems, options.samples, options.generator)
        found = records[name] = family(drawn, options)
        show(f"{name}: {options.problems} held-out problems, pools of {options.samples}, {JUDGED} of them checked", found)
        sys.stdout.flush()
        if options.write:
            add_figures(BUNDLED["judge"], {name: own(found)})
    if options.json:
        options.json.write_text(json.dumps(records, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
