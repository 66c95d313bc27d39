"""Why A* gets where it gets: A* beside best-of-n at equal accuracy under verifiers whose noise is a dial.

    python -m flows.figures.noise dice              # no model: depth of the problems, noise, and a bias by depth
    python -m flows.figures.noise countdown         # the bundled generator under an oracle with noise, and the bundled one

The oracle of Countdown knows from the problem's text alone whether the target can still be made from the numbers left after a
step. A value's logit, at most 2 from 0, is moved by normal noise that is a function of the text. Every ratio is best-of-n's
cost over that of A*, with an interval by a bootstrap over problems; best-of-n is estimated without bias from one pool.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from flows import work
from flows.figures.judged import Judged, searched
from flows.figures.measured import COSTS, Point, ratio, said
from flows.parts import part, spec
from flows.tables import console, number, table
from pipelines.dice import Dice, DiceVerifier, dice_problems, play
from pipelines.problems import Instance
from pipelines.problems.countdown import Countdown
from pipelines.problems.load import load_problems
from search.drive import Driver, Outcome
from search.strategies import build
from search.types import Join, Part, Problem, Question, Reading, Trace, Verifier
from verifiers.grade import Graders, Verdict

SURE = 2.0  # nats: the logit of a value before its noise
ONE = 0.25  # the chance that one sample of dice is right, at every depth
NOISES = (0.0, 0.5, 1.0, 2.0, 4.0)
BIASES = (0.0, -0.3)  # nats a step
DEPTHS = (4, 8, 16)
SIGMAS = (0.0, 1.0, 2.0, 4.0)
NORMAL = NormalDist()
WIDTH = 170  # of the table


# ----------------------------------------------------------------------------------------------------------- the oracle


@lru_cache(maxsize=1 << 16)
def labels(question: str, texts: tuple[str, ...]) -> tuple[bool, ...]:
    """Of each step of a Countdown solution: whether it is true and leaves the target within reach. No reference is read."""
    asked, _, target = question.removeprefix("Use ").partition(" to make ")
    numbers = ",".join(map(str, sorted(int(n) for n in asked.split(", "))))
    answer = f"{target.rstrip('.')} from {numbers}"
    return tuple(Countdown().label(Instance("countdown", 0, question, answer, question, ()), texts))


@dataclass
class Oracle:
    """Exact labels of Countdown's steps as values, their logits moved by noise of standard deviation `noise`, nats."""

    noise: float = 0.0
    seed: int = 0
    name: str = "oracle"

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [self._reading(trace) for trace in traces]

    def _reading(self, trace: Trace) -> Reading:
        texts = tuple(trace.texts)
        parts = tuple(
            self._value(label, (trace.question.text, *texts[: i + 1]))
            for i, label in enumerate(labels(trace.question.text, texts))
        )
        return Reading(parts, "" if parts else "no step", passes=1, tokens=sum(map(len, trace.steps)))

    def _value(self, label: bool, texts: tuple[str, ...]) -> float:
        bits = int.from_bytes(hashlib.blake2b(repr((self.seed, texts)).encode(), digest_size=6).digest(), "little")
        logit = (SURE if label else -SURE) + self.noise * NORMAL.inv_cdf((bits + 0.5) / 2**48)
        return 1 / (1 + math.exp(-logit))


# ----------------------------------------------------------------------------------------------------------------- dice


def dice_rows(given: argparse.Namespace) -> Iterator[list[str]]:
    """A line for each depth, bias and noise."""

    def right(question: Question, answer: str) -> bool:
        return answer == Dice.answer_of(question)

    def labelled(question: Question, texts: tuple[str, ...]) -> list[bool]:
        return ["wrong" not in text for text in texts]

    for depth in given.depths:
        dice = Dice(p=ONE ** (1 / depth))
        problems = dice_problems(given.problems, 0, depth)
        pool = build(Part("best-of-n", {"n": given.samples}))
        outcomes = [play(pool, problems, dice=dice, seed=seed) for seed in given.seeds]
        for bias in given.biases:
            for noise in given.noises:
                judges = [DiceVerifier(dice, noise, depth_bias=bias, seed=seed) for seed in given.seeds]
                judged = Judged.by(outcomes, judges, Join.LAST)
                plays = [
                    play(build(part(given.strategy)), problems, judge, dice=dice, seed=judge.seed, join=Join.LAST)
                    for judge in judges
                ]
                about = [str(depth), f"{bias:g}", f"{noise:g}", f"{judged.auc(labelled):.3f}"]
                yield [*about, *_cells(judged.curve(right), searched(given.strategy, plays, right))]


# ------------------------------------------------------------------------------------------------------------ countdown


def countdown_rows(given: argparse.Namespace) -> Iterator[list[str]]:
    """A line for each noise of the oracle, and one for the bundled reward model."""
    problems = load_problems(Part("countdown", {"split": "test", "count": given.problems, "seed": 1}))
    of, join = {problem.id: problem for problem in problems}, Join(given.join)
    with Graders() as graders:

        def right(question: Question, answer: str) -> bool:
            return graders.grade(of[question.id], answer) is Verdict.CORRECT

        # the pool is drawn once: no verifier changes what is sampled
        outcomes = [driven(f"best-of-n:n={given.samples}", problems, seed, Oracle(), join) for seed in given.seeds]
        for name, judges in _judges(given):
            judged = Judged.by(outcomes, judges, join)
            found = [
                driven(given.strategy, problems, seed, judge, join) for seed, judge in zip(given.seeds, judges, strict=True)
            ]
            auc = judged.auc(lambda question, texts: labels(question.text, texts))
            yield [name, f"{auc:.3f}", *_cells(judged.curve(right), searched(given.strategy, found, right))]


def _judges(given: argparse.Namespace) -> Iterator[tuple[str, list[Verifier]]]:
    """By name, a verifier for each seed."""
    for sigma in given.sigmas:
        yield f"oracle, noise {sigma:g}", [Oracle(sigma, seed) for seed in given.seeds]
    yield "prm", [work.verifier_of(Part("prm"))[0]] * len(given.seeds)


def driven(strategy: str, problems: Sequence[Problem], seed: int, judge: Verifier, join: Join) -> list[Outcome]:
    """One search a problem with the bundled generator; the outcomes in the order of the problems."""
    asked = spec("countdown", strategy, seed=seed)
    model = work.generator_of(asked.generator)
    driver = Driver(model.engine, judge, concurrency=work.CONCURRENCY)
    searches = (work.search_of(key, problem, asked, model, (judge, join)) for key, problem in enumerate(problems))
    outcomes = sorted(driver.drive(searches), key=lambda outcome: outcome.search.key)
    for outcome in outcomes:
        if outcome.exception is not None:
            raise outcome.exception
    return outcomes


# -------------------------------------------------------------------------------------------------------------- printed


COLUMNS = (
    ">AUC",
    ">one sample",
    ">best of all",
    ">A*",
    ">tokens",
    *(c for w in COSTS for c in (f">{w.replace('_', ' ')} x", ">95%")),
)


def _cells(curve: Sequence[Point], astar: Point) -> list[str]:
    right = [f"{float(each.right.mean()):.3f}" for each in (curve[0], curve[-1], astar)]
    ratios = [cell for what in COSTS for cell in said(ratio(curve, astar, what))]
    return [*right, number(float(astar.tokens.mean())), *ratios]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["dice", "countdown"])
    parser.add_argument("--strategy", default="astar:k=4")
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--samples", type=int, default=32, help="of best-of-n's pool")
    parser.add_argument("--noises", type=float, nargs="+", default=NOISES, help="dice: of a logit, nats")
    parser.add_argument("--biases", type=float, nargs="+", default=BIASES, help="dice: of a logit, nats a step")
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS, help="dice: steps of a solution")
    parser.add_argument("--sigmas", type=float, nargs="+", default=SIGMAS, help="countdown: of the oracle's logit, nats")
    parser.add_argument("--join", choices=list(map(str, Join)), default="min", help="countdown: the steps' values into one")
    given = parser.parse_args()
    dice = given.what == "dice"
    about = ("depth", ">bias", ">noise") if dice else ("verifier",)
    made = table(*about, *COLUMNS, title=f"{given.what}: {given.strategy}, {given.problems} problems, seeds {given.seeds}")
    for row in (dice_rows if dice else countdown_rows)(given):
        sys.stderr.write("  ".join(row) + "\n")
        made.add_row(*row)
    out = console()
    out.width = max(out.width, WIDTH)
    out.print(made)
    out.print(f"x: best-of-n / {given.strategy} at equal accuracy; inf: best-of-n of {given.samples} does not reach it")


if __name__ == "__main__":
    main()
