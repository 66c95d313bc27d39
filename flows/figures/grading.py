"""Grading: comparisons a second, agreement with labelled pairs, and what answers do that are made to hang it.

    python -m flows.figures.grading                       # throughput and hostile answers
    python -m flows.figures.grading --pairs pairs.jsonl   # agreement too

Throughput is of distinct pairs whose answers are plain (whole numbers, decimals, fractions), each sent through a child of the
pool, which the shortcuts of `Graders` would mostly save; then of the same through `Graders.grade_all`. A file of pairs has a
JSON object a line: gold, prediction, expected_equal, class, kind.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from search.types import Problem
from verifiers.extract import canonical, extractor_for
from verifiers.grade import Graders, Verdict
from verifiers.pool import Pool

HOSTILE = (
    "$9^{9^{9}}$",
    "$5000000!$",
    "$\\binom{10^7}{5\\cdot 10^6}$",
    "$10^{10^{10}}-10^{10^{10}}+2$",
    "$(9^9)^{(9^9)}$",
    "$\\exp(\\exp(\\exp(20)))$",
    "$\\int_0^1 x^{x^{x^x}} \\sin(\\frac{1}{x}) dx$",
    "$\\sum_{k=1}^{10^9} \\frac{1}{k!}$",
    "$(x+y+z)^{9999}$",
    "(" * 1000 + "1" + ")" * 990,
    "1" * 2000,
    "1, 234" * 300,
    "a" + " " * 1990 + "b",
    "\\text{" * 300,
    "the answer is " * 140,
)


def problem(gold: str) -> Problem:
    return Problem("pair", "", gold, "math/pairs", {"style": "math"})


def plain(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct (gold, answer) pairs of plain answers, about half of them equal."""
    rng, found = random.Random(seed), dict[tuple[str, str], None]()
    while len(found) < count:
        whole, part = rng.randrange(10_000), rng.randrange(1, 10)
        gold, equal = rng.choice(
            [
                (f"{whole}", f"{whole:,}.0"),
                (f"{whole}.{part}", f"{whole}.{part}0"),
                (f"\\frac{{{whole}}}{{{part}}}", f"{whole}/{part}"),
            ]
        )
        found[gold, equal if rng.random() < 0.5 else f"{whole + 1}"] = None
    return list(found)


def throughput(count: int, children: int | None) -> tuple[float, float, float, int]:
    """Comparisons a second: through one child; through the pool; of grade_all. And the children of the pool."""
    pairs = plain(count)
    with Pool(1) as single:
        single.ask("1", "x")
        one = _rate(lambda: [single.ask(*pair) for pair in pairs], count)
    with Graders(children=children) as graders, ThreadPoolExecutor(graders.pool.size) as threads:
        list(threads.map(lambda _: graders.pool.ask("1", "x"), range(4 * graders.pool.size)))
        time.sleep(2.0)  # for the last of them to be up
        many = _rate(lambda: list(threads.map(lambda pair: graders.pool.ask(*pair), pairs)), count)
        batch = _rate(lambda: graders.grade_all([(problem(gold), key, "") for gold, key in pairs]), count)
        return one, many, batch, graders.pool.size


def _rate(work: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def agreement(rows: Sequence[dict[str, object]], as_written: bool) -> tuple[Counter[str], Counter[str], list[str], float]:
    """Of each class, how many pairs there are, and on how many we agree; which of `core` we do not; the longest time."""
    total, agreed, others, longest = Counter[str](), Counter[str](), list[str](), 0.0
    with Graders() as graders:
        graders.grade(problem("\\frac12"), "0.5")
        for row in rows:
            text, key = str(row["prediction"]), None
            if row["kind"] in ("answer", "real_output"):
                found = extractor_for("math")(text) if "\\boxed" in text else canonical(text)
                key = text if as_written else found.key
            start = time.perf_counter()
            same = graders.grade(problem(str(row["gold"])), key, text) is Verdict.CORRECT
            longest = max(longest, time.perf_counter() - start)
            total[str(row["class"])] += 1
            agreed[str(row["class"])] += same is row["expected_equal"]
            if same is not row["expected_equal"] and row["class"] == "core":
                others.append(str(row["id"]))
    return total, agreed, others, longest


def hostile() -> list[tuple[str, str, float, str]]:
    """Answer, verdict, seconds, and the verdict on the good answer after it."""
    found = []
    with Graders() as graders:
        for answer in HOSTILE:
            start = time.perf_counter()
            verdict = graders.grade(problem("5"), answer)
            seconds = time.perf_counter() - start
            found.append((answer, verdict.value, seconds, graders.grade(problem("\\frac{1}{2}"), "0.50").value))
            graders._known.clear()  # so that the next one is computed again
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="labelled pairs, JSON lines")
    parser.add_argument("--count", type=int, default=2000, help="of plain comparisons")
    parser.add_argument("--children", type=int, help="of the pool; as many as processors")
    options = parser.parse_args()
    one, many, batch, size = throughput(options.count, options.children)
    _say(f"comparisons/s  {one:,.0f} through one child, {many:,.0f} through a pool of {size}, {batch:,.0f} by grade_all")
    for answer, verdict, seconds, after in hostile():
        shown = answer if len(answer) <= 50 else answer[:40] + f"... ({len(answer)})"
        _say(f"{verdict:9} {seconds:5.2f} s  then {after}  {shown}")
    if options.pairs:
        rows = [json.loads(line) for line in options.pairs.read_text(encoding="utf-8").splitlines()]
        for as_written in (True, False):
            total, agreed, others, longest = agreement(rows, as_written)
            said = ", ".join(f"{name} {agreed[name]} of {n} ({agreed[name] / n:.1%})" for name, n in total.items())
            how = "as written" if as_written else "as voting keys"
            _say(f"{options.pairs.name}, {how}: {said}; longest {longest:.2f} s; others in core: {', '.join(others) or 'none'}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
