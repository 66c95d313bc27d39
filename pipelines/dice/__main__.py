"""Strategies under verifiers of rising noise.

python -m pipelines.dice --strategy beam:n=8,keep=4 --strategy astar:k=4 --noise 0 0.5 1 2 4 --problems 300
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from search.strategies import build
from search.types import Join, Part

from . import Dice, DiceVerifier, accuracy, dice_problems, passes, play, tokens
from .verifier import KINDS

STRATEGIES = ("best-of-n:n=16,select=best", "beam:n=8,keep=4", "astar:k=4")


def part(text: str) -> Part:
    """NAME or NAME:KEY=VALUE,KEY=VALUE."""
    name, _, rest = text.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",") if pair]
    return Part(name, {key: value for key, _, value in pairs})


def table(given: argparse.Namespace) -> Iterator[str]:
    dice = Dice(given.p, given.variety, given.recover, given.longer)
    problems = dice_problems(given.problems, given.seed, given.depth, given.spread)
    yield f"{given.problems} problems of {given.depth} steps, {dice}, verifier of each {given.kind}"
    yield f"one sample is right with probability {dice.value(given.depth):.3f}"
    wide = max(map(len, given.strategy))
    yield f"{'strategy':{wide}}  noise  accuracy  tokens  passes  in sequence"
    for text in given.strategy:
        strategy = build(part(text))
        for noise in given.noise:
            verifier = DiceVerifier(dice, noise, depth_bias=given.depth_bias, kind=given.kind, seed=given.seed)
            out = play(strategy, problems, verifier, dice=dice, seed=given.seed, join=Join(given.join))
            chain = sum(each.search.tree.usage.sequential_tokens for each in out) / len(out)
            cost = f"{tokens(out):6.0f}  {passes(out):6.1f}  {chain:11.0f}"
            yield f"{text:{wide}}  {noise:5g}  {accuracy(out):8.3f}  {cost}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.dice", description="Strategies under verifiers of rising noise.")
    parser.add_argument("--strategy", action="append", help="NAME or NAME:KEY=VALUE,KEY=VALUE; may be given again")
    parser.add_argument("--noise", type=float, nargs="+", default=[0, 0.5, 1, 2, 4], help="of the verifier's logit, nats")
    parser.add_argument("--kind", choices=KINDS, default="value", help="the chance of success, or whether each step is right")
    parser.add_argument("--join", choices=list(map(str, Join)), default="last")
    parser.add_argument("--depth-bias", type=float, default=0.0, help="of the verifier's logit, nats a step")
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--depth", type=int, default=8, help="steps of a solution")
    parser.add_argument("--spread", type=int, default=0, help="more or fewer steps, by problem")
    parser.add_argument("--p", type=float, default=0.85, help="probability that a step is right")
    parser.add_argument("--variety", type=int, default=8, help="right steps that differ, and as many wrong ones")
    parser.add_argument("--recover", type=float, default=0.0, help="probability of a right answer after a wrong step")
    parser.add_argument("--longer", type=int, default=0, help="words that a wrong step has more")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    given.strategy = given.strategy or list(STRATEGIES)
    try:
        for line in table(given):
            sys.stdout.write(line + "\n")
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
