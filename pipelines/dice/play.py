"""Searches of dice, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from search.drive import Driver, Outcome, Search
from search.strategies import Strategy
from search.tree import Tree
from search.types import Budget, Encoder, Join, Problem, Sampling, Verifier

from .generator import DiceGenerator, Refused
from .verifier import DiceVerifier
from .world import WORLD, Dice, boxed, question_of

TOKENS = 1 << 16  # of a solution: no bound


def play(
    strategy: Strategy,
    problems: Sequence[Problem],
    verifier: Verifier | None = None,
    *,
    dice: Dice = WORLD,
    small: Dice | None = None,
    seed: int = 0,
    budget: Budget = Budget(),
    sampling: Sampling = Sampling(),
    join: Join = Join.LAST,
    encoder: Encoder | None = None,
) -> list[Outcome]:
    """One search a problem; the outcomes in the order of the problems. Without a verifier: the perfect one.

    A value of `kind="value"` is a forecast that later ones replace, hence `join`. A search that fails raises its error.
    """
    judge = verifier or DiceVerifier(dice)
    driver = Driver(DiceGenerator(dice, small), judge, encoder=encoder, concurrency=max(len(problems), 1), slice=1 << 12)
    searches = []
    for key, problem in enumerate(problems):
        tree = Tree(
            question_of(problem),
            boxed,
            seed=seed,
            sampling=sampling,
            budget=budget,
            step_tokens=TOKENS,
            tokens_limit=TOKENS,
            verifier=judge.name,
            join=join,
            encode=_unreadable,
            render=_unreadable,
        )
        searches.append(Search(key, tree, strategy))
    outcomes = sorted(driver.drive(searches), key=lambda outcome: outcome.search.key)
    for outcome in outcomes:
        if outcome.exception is not None:
            raise outcome.exception
    return outcomes


def _unreadable(text: str) -> tuple[int, ...]:
    raise Refused("dice read no text of a strategy's own")


def is_right(outcome: Outcome) -> bool:
    chosen = outcome.choice.answer if outcome.choice else None
    return chosen == Dice.answer_of(outcome.search.tree.question)


def accuracy(outcomes: Sequence[Outcome]) -> float:
    """The share of problems with the right answer chosen; nothing chosen is not right."""
    return fmean(map(is_right, outcomes))


def tokens(outcomes: Sequence[Outcome]) -> float:
    """Generated tokens a problem."""
    return fmean(outcome.search.tree.usage.generated_tokens for outcome in outcomes)


def passes(outcomes: Sequence[Outcome]) -> float:
    """Verifier passes a problem."""
    return fmean(outcome.search.tree.usage.verifier_passes for outcome in outcomes)


__all__ = ["accuracy", "is_right", "passes", "play", "tokens"]
