"""The language of dice: its tokens, its problems, and how a row goes on. Everything is a function of numbers given to it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from search.checks import positive
from search.types import SEPARATOR, Answer, Problem, Question, Until

END, BREAK, START, WORD = range(4)  # tokens; a step is a head, words and BREAK
ANSWER, ANSWERS = 10, 10  # ANSWER + n is written \boxed{n}
DEPTH = 20  # DEPTH + d in a prompt: so many steps
HEAD = 1 << 12  # HEAD + 2 i + wrong begins the i-th right or wrong step; what follows in it is a function of its head
WORDS = 4  # a step has 0 to 3 words after its head
VARIETY = 1 << 18  # the most: token ids have 20 bits (search.packing)
SALTS = 1 << 20  # so many problems differ
PROMPT = re.compile(r"Take (\d+) right steps from (\d+)\.")
BOXED = re.compile(r"\\boxed\{(\d+)\}")
MASK = (1 << 64) - 1


def mixed(a: int, b: int) -> int:
    """64 bits that are a function of two numbers, by the finalizer of SplitMix64: a digest takes several times as long, and
    this is the innermost loop."""
    x = (a ^ b * 0x9E3779B97F4A7C15) & MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


rolled = lru_cache(maxsize=1 << 16)(mixed)  # for states: siblings, and the verifier, go over the same ones again


def unit(bits: int) -> float:
    """The number in (0, 1) that 64 bits stand for."""
    return ((bits >> 12) + 0.5) / (1 << 52)


@lru_cache(maxsize=1 << 16)
def written(token: int) -> str:
    """The text of one token."""
    if token >= HEAD:
        return f"{'wrong' if token & 1 else 'right'} {(token - HEAD) // 2} "
    return f"\\boxed{{{token - ANSWER}}}" if token >= ANSWER else ("", SEPARATOR, "", "so ")[token]


def boxed(text: str) -> Answer:
    """The extractor of the language."""
    found = BOXED.search(text)
    return Answer(found[1]) if found else Answer(None, "no boxed answer")


# ------------------------------------------------------------------------------------------------------------- problems


def right_answer(salt: int) -> int:
    return mixed(salt, 2) % ANSWERS


def wrong_answer(salt: int, mistake: int) -> int:
    """What a first mistake in this step of this problem leads to: the same for all of them, so that wrong answers agree
    too, and a majority may err."""
    return (right_answer(salt) + 1 + mixed(salt, 2 + mistake) % (ANSWERS - 1)) % ANSWERS


def dice_problems(count: int, seed: int = 0, depth: int = 8, spread: int = 0) -> list[Problem]:
    """Problems whose solutions have `depth` steps, more or fewer by up to `spread`."""
    positive(count=count, depth=depth - spread)
    problems = []
    for number in range(count):
        bits = mixed(mixed(0xD1CE, seed), number)
        deep, salt = depth - spread + bits % (2 * spread + 1), mixed(bits, 1) % SALTS
        prompt = f"Take {deep} right steps from {salt}."
        problems.append(Problem(f"dice-{seed}-{number}", prompt, str(right_answer(salt)), "dice", {"depth": deep}))
    return problems


def question_of(problem: Problem) -> Question:
    """What a search sees of a problem. Raises ValueError for a prompt of another kind."""
    found = PROMPT.fullmatch(problem.prompt)
    if not found or not 1 <= int(found[1]) < HEAD - DEPTH or int(found[2]) >= SALTS:
        raise ValueError(f"not a problem of dice: '{problem.prompt}' (it would be: Take 8 right steps from 48213.)")
    return Question(problem.id, problem.prompt, (START, DEPTH + int(found[1]), int(found[2])))


# --------------------------------------------------------------------------------------------------------------- places


class Place(NamedTuple):
    """What a prefix says of its future: all that a row writes follows from this and the row's seed."""

    depth: int  # steps of a whole solution
    salt: int  # which problem
    state: int  # 64 bits, a function of the prompt and of each step begun
    steps: int = 0  # begun
    mistake: int = 0  # the first step that is wrong, counted from 1; 0 = none
    head: int = 0  # of the step that is being written; 0 between two steps
    inside: int = 0  # tokens of that step, its head counted
    answered: bool = False


def beginning(prompt: Sequence[int]) -> Place:
    """The place of a question's tokens."""
    _, depth, salt = prompt
    return Place(depth - DEPTH, salt, mixed(depth, salt))


@lru_cache(maxsize=1 << 12)
def place_of(prefix: tuple[int, ...]) -> Place:
    """The place of a question's tokens and what was written after them. Raises ValueError where the end was written."""
    depth, salt, state, steps, mistake, head, inside, answered = beginning(prefix[:3])
    for token in prefix[3:]:
        inside += 1
        if token >= HEAD:
            head, inside, steps, state = token, 1, steps + 1, rolled(state, token)
            mistake = mistake or (token & 1) * steps
        elif token == BREAK:
            head = inside = 0
        elif token == END:
            raise ValueError("nothing can follow a solution's end")
        elif token >= ANSWER:
            answered = True
    return Place(depth, salt, state, steps, mistake, head, inside, answered)


# ---------------------------------------------------------------------------------------------------------------- world


@dataclass(frozen=True)
class Dice:
    """The world: how likely a step is right, and what there is to draw from."""

    p: float = 0.85  # probability that a step is right
    variety: int = 8  # right steps that differ, and as many wrong ones, all as likely; fewer = more duplicates
    recover: float = 0.0  # probability that the answer is right all the same after a wrong step
    longer: int = 0  # words that a wrong step has more than a right one of its number

    def __post_init__(self) -> None:
        positive(variety=self.variety)
        if not 0 < self.p < 1:
            raise ValueError(f"p must be above 0 and below 1, not {self.p}")
        if not 0 <= self.recover < 1:
            raise ValueError(f"recover must be at least 0 and below 1, not {self.recover}")
        if self.variety > VARIETY or self.longer < 0:
            raise ValueError(f"variety must be at most {VARIETY} and longer at least 0, not {self.variety} and {self.longer}")

    @staticmethod
    def answer_of(question: Question) -> str:
        """The reference answer; not for a search."""
        return str(right_answer(question.tokens[2]))

    def value(self, depth: int, steps: int = 0, wrong: bool = False) -> float:
        """The probability that what is sampled on from a prefix of so many steps is right: the optimal verifier's value."""
        right = 0.0 if wrong else self.p ** (depth - steps)
        return right + (1 - right) * self.recover

    def write(self, place: Place, seed: int, until: Until, odds: tuple[float, float]) -> list[int]:
        """All tokens from a place to the end of its step, or of its solution. `odds`: p and recover as they are drawn."""
        depth, salt, state, steps, mistake, head, inside, answered = place  # no objects in this loop: it is the hot one
        p, recover = odds
        tokens: list[int] = []
        while True:
            if not head:
                u = unit(mixed(state, seed))
                wrong = u >= p
                left = (u - p) / (1 - p) if wrong else u / p  # uniform again: one draw says also which step it is
                head = HEAD + 2 * min(int(left * self.variety), self.variety - 1) + wrong
                state, steps, inside = rolled(state, head), steps + 1, 1
                mistake = mistake or wrong * steps
                tokens.append(head)
            if not answered:
                tokens += [WORD] * (1 + (head - HEAD) // 2 % WORDS + (head & 1) * self.longer - inside)
            if steps >= depth:
                if not answered:
                    recovered = mistake and recover and unit(mixed(mixed(state, 1), seed)) < recover
                    wrongly = mistake and not recovered
                    tokens.append(ANSWER + (wrong_answer(salt, mistake) if wrongly else right_answer(salt)))
                return [*tokens, END]
            tokens.append(BREAK)
            if until is Until.STEP:
                return tokens
            head = 0


WORLD = Dice()


@lru_cache(maxsize=1 << 10)
def tempered(x: float, temperature: float) -> float:
    """The first of two probabilities x and 1 - x at a temperature. At 0 it stays: no step is the likeliest, so a greedy row is
    one that has the same noise whatever its seed."""
    if not temperature or x == 0:
        return x
    return 1 / (1 + math.exp(min(math.log((1 - x) / x) / temperature, 700.0)))


__all__ = ["WORLD", "Dice", "boxed", "dice_problems", "question_of"]
