"""Fakes that are functions of their input: a small language, a generator that batches in any order, and verifiers.

A text of the language is steps of words, each ended by a separator; a solution ends with `\\boxed{d}`. The next token
depends on the row's seed and on all tokens before it, and on nothing else: not on who asked first, nor on neighbours.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from search.types import Answer, Extend, Extension, Finish, Path, Question, Reading, Row, Sampling, Step, Trace, Until

END, SEPARATOR, START = 0, 1, 2
DIGIT = 10  # DIGIT + d is written \boxed{d}
GOOD, BAD = 100, 200  # words; a step that begins with a bad one is wrong, and so is the answer after it
WORDS = 7
DIGITS = 4


def noise(*of: object) -> float:
    """A number in [0, 1) that is a function of its arguments."""
    digest = hashlib.blake2b(repr(of).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little") / (1 << 56)


def question(name: str, text: str = "") -> Question:
    return Question(name, text or f"question {name}", (START, 1000 + int(noise(name) * 1000)))


def written(token: int) -> str:
    """The text of one token."""
    if token == END:
        return ""
    if token == SEPARATOR:
        return "\n\n"
    return f"\\boxed{{{token - DIGIT}}}" if DIGIT <= token < GOOD else f"{'good' if token < BAD else 'bad'}{token % 100} "


def boxed(text: str) -> Answer:
    """The extractor of the language."""
    found = re.search(r"\\boxed\{(\d+)\}", text)
    return Answer(found[1]) if found else Answer(None, "no boxed answer")


def right_digit(of: Question) -> int:
    return of.tokens[1] % DIGITS


# ------------------------------------------------------------------------------------------------------------ languages

Language = Callable[[Row, Sampling], Callable[[Sequence[int]], int]]


@lru_cache(maxsize=1 << 17)
def next_token(prefix: tuple[int, ...], seed: int) -> int:
    """The small language. `prefix` is the prompt and all that was written; about one solution in ten has no answer."""
    prompt, said = prefix[:2], prefix[2:]
    u = noise(seed, prefix)
    if said and DIGIT <= said[-1] < GOOD:
        return END
    steps = said.count(SEPARATOR)
    inside = said[::-1].index(SEPARATOR) if steps else len(said)
    if inside == 0 and steps >= 1 and (steps >= 5 or u < 0.35):
        if u < 0.04:
            return END
        wrong = any(token >= BAD for token in said)
        shift = 1 + int(noise(seed, prefix, "wrong") * (DIGITS - 1)) if wrong else 0
        return DIGIT + (prompt[1] + shift) % DIGITS
    if inside >= 1 and (inside >= 6 or u < 0.35):
        return SEPARATOR
    word = int(noise(seed, prefix, "word") * WORDS)
    return (BAD if inside == 0 and u > 0.75 else GOOD) + word


def small_language(row: Row, sampling: Sampling) -> Callable[[Sequence[int]], int]:
    """Greedy decoding does not see the seed, as it should not."""
    seed = row.seed if sampling.temperature > 0 else 0
    return lambda said: next_token((*row.prefix, *said), seed)


def scripted(texts: Mapping[Path, Sequence[int]]) -> Language:
    """Each row writes what the script has for its path."""

    def language(row: Row, _: Sampling) -> Callable[[Sequence[int]], int]:
        tokens = texts[row.path]
        return lambda said: tokens[len(said)]

    return language


def solution(length: int, digit: int) -> list[int]:
    """A solution of that many tokens in one step: words, the answer, the end."""
    return [*([GOOD] * (length - 2)), DIGIT + digit, END]


def never_ending(_: Row, __: Sampling) -> Callable[[Sequence[int]], int]:
    """Writes words and separators and never an end."""
    return lambda said: SEPARATOR if len(said) % 4 == 3 else GOOD + len(said) % WORDS


# ------------------------------------------------------------------------------------------------------------ generator


@dataclass(slots=True)
class Ticket:
    """A request that is running."""

    search: int
    request: Extend
    write: list[Callable[[Sequence[int]], int]]
    said: list[list[int]]
    finish: list[Finish | None]

    def round(self) -> None:
        """One token for every live row, as the contract of Extend has it."""
        live = [i for i, finish in enumerate(self.finish) if finish is None]
        request = self.request
        if request.allowance is not None:
            left = request.allowance - sum(map(len, self.said))
            for i in live[left:]:
                self.finish[i] = Finish.BUDGET
            live = live[:left]
        for i in live:
            token = self.write[i](self.said[i])
            self.said[i].append(token)
            self.finish[i] = self._finish(token, i)
        ended = sum(finish in (Finish.END, Finish.STEP) for finish in self.finish)
        if request.first is not None and ended >= request.first:
            self.finish = [finish or Finish.CANCELLED for finish in self.finish]
        if request.allowance is not None and request.allowance == sum(map(len, self.said)):
            self.finish = [finish or Finish.BUDGET for finish in self.finish]

    def _finish(self, token: int, index: int) -> Finish | None:
        if token == END:
            return Finish.END
        if token == SEPARATOR and self.request.until is Until.STEP:
            return Finish.STEP
        return Finish.LENGTH if len(self.said[index]) >= self.request.rows[index].limit else None

    @property
    def done(self) -> bool:
        return None not in self.finish


@dataclass
class FakeGenerator:
    """Answers Extend token by token. `width` requests get `rounds` tokens an advance, in an `order` that may change."""

    language: Language = small_language
    width: int = 1 << 30
    rounds: int = 1
    order: str = "first"  # first come, "last" come, or "mixed"
    context: int = 1 << 30
    spent: dict[int, int] = field(default_factory=dict)  # tokens by search: what an engine's own counter would say
    asked: list[tuple[int, Extend]] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    clock: int = 0

    def submit(self, search: int, request: Extend) -> None:
        if any(ticket.search == search for ticket in self.tickets):
            raise ValueError(f"search {search} has a request already")
        longest = max(len(row.prefix) for row in request.rows)
        if longest >= self.context:
            raise ValueError(f"the prompt has {longest} tokens and the model's context {self.context}")
        write = [self.language(row, request.sampling) for row in request.rows]
        self.asked.append((search, request))
        self.tickets.append(Ticket(search, request, write, [[] for _ in write], [None for _ in write]))

    def advance(self) -> list[tuple[int, Extension]]:
        self.clock += 1
        turn = list(self.tickets)
        if self.order == "last":
            turn.reverse()
        elif self.order == "mixed":
            random.Random(self.clock).shuffle(turn)
        replies = []
        for ticket in turn[: self.width]:
            for _ in range(self.rounds):
                if not ticket.done:
                    ticket.round()
            if ticket.done:
                self.tickets.remove(ticket)
                replies.append((ticket.search, self.reply(ticket)))
        return replies

    def reply(self, ticket: Ticket) -> Extension:
        steps = [
            step_of(said, row.seed, finish or Finish.LENGTH)
            for said, row, finish in zip(ticket.said, ticket.request.rows, ticket.finish, strict=True)
        ]
        self.spent[ticket.search] = self.spent.get(ticket.search, 0) + sum(map(len, steps))
        return Extension(tuple(steps), prompt_tokens=len(ticket.request.rows[0].prefix))

    def forget(self, search: int) -> None:
        self.tickets = [ticket for ticket in self.tickets if ticket.search != search]

    @property
    def busy(self) -> bool:
        return bool(self.tickets)


def step_of(tokens: Sequence[int], seed: int = 0, finish: Finish = Finish.STEP) -> Step:
    """A step with statistics that are a function of its tokens and the seed."""
    values = [noise(seed, i, token) for i, token in enumerate(tokens)]
    logprobs = np.array([math.log(max(value, 1e-6)) for value in values], dtype=np.float32)
    certainties = np.array([4 * value for value in values], dtype=np.float32)
    entropies = np.array([1 - value for value in values], dtype=np.float32)
    text = "".join(map(written, tokens))
    return Step(np.array(tokens, dtype=np.int32), text, logprobs, certainties, entropies, finish)


# ------------------------------------------------------------------------------------------------------------ verifiers

Judge = Callable[[Trace], tuple[float, ...]]


@dataclass
class FakeVerifier:
    """Scores each trace by a function of it. One pass a trace, and what it saw is kept."""

    judge: Judge
    name: str = "fake"
    seen: list[Trace] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        self.seen += traces
        self.batches.append(len(traces))
        parts = [self.judge(trace) for trace in traces]
        tokens = [sum(map(len, trace.steps)) for trace in traces]
        return [Reading(p, passes=1, tokens=t) for p, t in zip(parts, tokens, strict=True)]


def by_text(trace: Trace) -> tuple[float, ...]:
    """A value in [0, 1) for each step from the text up to it."""
    texts = [step.text for step in trace.steps]
    return tuple(noise("".join(texts[: i + 1])) for i in range(len(texts)))


def perfect(trace: Trace) -> tuple[float, ...]:
    """1 for each step that a right solution may begin with, else 0."""
    right = f"\\boxed{{{right_digit(trace.question)}}}"

    def wrong(step: Step) -> bool:
        return "bad" in step.text or (step.finish is Finish.END and right not in step.text)

    return tuple(0.0 if any(map(wrong, trace.steps[: i + 1])) else 1.0 for i in range(len(trace.steps)))


def constant(trace: Trace) -> tuple[float, ...]:
    return (0.5,) * len(trace.steps)


def often_invalid(trace: Trace) -> tuple[float, ...]:
    """NaN, infinity, below 0, above 1, or nothing for about two traces in three."""
    values = by_text(trace)
    which = int(noise(trace.steps[-1].text, "which") * 9)
    invalid = {0: math.nan, 1: math.inf, 2: -0.1, 3: 1.1, 4: 1e300}
    return () if which == 5 else (*values[:-1], invalid.get(which, values[-1]))


def always_nan(trace: Trace) -> tuple[float, ...]:
    return (math.nan,) * len(trace.steps)


def failing(names: Sequence[str], judge: Judge = by_text) -> Judge:
    """Raises at traces of these questions."""

    def judged(trace: Trace) -> tuple[float, ...]:
        if trace.question.id in names:
            raise RuntimeError(f"cannot judge {trace.question.id}")
        return judge(trace)

    return judged


@dataclass
class WrongLength(FakeVerifier):
    """One reading too few where a trace of these questions is in the batch."""

    names: Sequence[str] = ()

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        readings = super().score(traces)
        return readings[:-1] if any(trace.question.id in self.names for trace in traces) else readings
