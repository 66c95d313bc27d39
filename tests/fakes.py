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
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from search.rules import Ahead, Pause
from search.types import (
    GREEDY,
    Answer,
    Embedding,
    Extend,
    Extension,
    Finish,
    Path,
    Question,
    Reading,
    Row,
    Sampling,
    Step,
    Trace,
    Until,
    order,
)

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


def spelled(text: str) -> tuple[int, ...]:
    """The tokens of a text: what `written` has written, and for any other word a good one."""
    tokens = []
    for piece, digit, kind, number in re.findall(r"(\n\n|\\boxed\{(\d)\}|(good|bad)(\d+)|[^\s\\]+|\\)", text):
        if piece == "\n\n":
            tokens.append(SEPARATOR)
        elif digit:
            tokens.append(DIGIT + int(digit))
        else:
            word = int(number) if number else int(noise(piece, "word") * WORDS)
            tokens.append((BAD if kind == "bad" else GOOD) + word)
    return tuple(tokens)


def rendered(text: str) -> tuple[int, ...]:
    """A prompt's tokens: another text is another question of the language."""
    return (START, 1000 + int(noise(text, "prompt") * 1000))


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


def smaller_language(row: Row, sampling: Sampling) -> Callable[[Sequence[int]], int]:
    """The sibling: the same grammar, other texts."""
    seed = -1 - (row.seed if sampling.temperature > 0 else 0)
    return lambda said: next_token((*row.prefix, *said), seed)


def scripted(texts: Mapping[Path, Sequence[int]]) -> Language:
    """Each row writes what the script has for its path; what a row begins with takes the place of as many tokens."""

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


VOCABULARY = (END, SEPARATOR, *range(DIGIT, DIGIT + DIGITS), *range(GOOD, GOOD + WORDS), *range(BAD, BAD + WORDS))
SEEDS = 12  # draws that say what may come next


def likely(language: Language, row: Row, said: Sequence[int]) -> dict[int, float]:
    """The probability of each next token: half of it what greedy decoding writes, a little any word, the rest as drawn."""
    drawn = [language(replace(row, seed=seed), Sampling())(said) for seed in range(SEEDS)]
    weights = {token: 0.01 for token in VOCABULARY if token != END}  # it ends where it would end when drawn, nowhere else
    for token in (*drawn, *[language(row, GREEDY)(said)] * SEEDS):
        weights[token] = weights.get(token, 0.0) + 1
    total = math.fsum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def ahead(coming: Mapping[int, float], entropy: float, rule: Pause, seed: int, index: int) -> Ahead:
    """What a row with that seed says of its token at that index."""
    logprobs = {token: math.log(p) for token, p in coming.items()}
    keys = dict(logprobs)
    if rule.gumbel:
        keys = {token: key - math.log(-math.log(0.001 + 0.998 * noise(seed, index, token))) for token, key in keys.items()}
    told = sorted(keys, key=lambda token: (-keys[token], token))[: rule.peek]
    of = [np.array([each[token] for token in told], dtype=np.float32) for each in (logprobs, keys)]
    return Ahead(entropy, np.array(told, dtype=np.int32), *of)


@dataclass(slots=True)
class Ticket:
    """A request that is running."""

    search: int
    request: Extend
    language: Language
    write: list[Callable[[Sequence[int]], int]]
    said: list[list[int]]
    finish: list[Finish | None]
    entropies: list[list[float]]  # of the distributions before each token, where a rule reads them
    ahead: dict[int, Ahead] = field(default_factory=dict)

    @classmethod
    def of(cls, search: int, request: Extend, language: Language) -> Ticket:
        write = [language(row, request.sampling) for row in request.rows]
        return cls(search, request, language, write, [[] for _ in write], [None for _ in write], [[] for _ in write])

    def round(self) -> None:
        """One token for every live row, as the contract of Extend has it."""
        request, before = self.request, self._ended
        self._pause()
        live = [i for i, finish in enumerate(self.finish) if finish is None]
        if request.allowance is not None:
            left = request.allowance - sum(map(len, self.said))
            for i in live[left:]:
                self.finish[i] = Finish.BUDGET
            live = live[:left]
        for i in live:
            begin, said = request.rows[i].begin, self.said[i]
            token = begin[len(said)] if len(said) < len(begin) else self.write[i](said)
            said.append(token)
            self.finish[i] = self._finish(token, i)
        if (request.first is not None and self._ended >= request.first) or (self._ended > before and self._decided()):
            self.finish = [finish or Finish.CANCELLED for finish in self.finish]
        if request.allowance is not None and request.allowance == sum(map(len, self.said)):
            self.finish = [finish or Finish.BUDGET for finish in self.finish]

    @property
    def _ended(self) -> int:
        """How many rows have ended by themselves."""
        return sum(finish in (Finish.END, Finish.STEP) for finish in self.finish)

    def _pause(self) -> None:
        """Stops the rows that the rule pauses before their next token. A window at the beginning is as long as it can be."""
        rule = self.request.rules.pause
        if rule is None:
            return
        for i in [i for i, finish in enumerate(self.finish) if finish is None]:
            row, said, seen = self.request.rows[i], self.said[i], self.entropies[i]
            coming = likely(self.language, row, said)
            seen.append(-math.fsum(p * math.log(p) for p in coming.values()))
            if len(said) < len(row.begin) + rule.least:
                continue
            mean = math.fsum(seen[-rule.window :]) / len(seen[-rule.window :])
            if mean <= rule.above if rule.falling else mean >= rule.above:
                self.finish[i], self.ahead[i] = Finish.PAUSE, ahead(coming, seen[-1], rule, row.seed, len(said))

    def _finish(self, token: int, index: int) -> Finish | None:
        """Why the newest token ends the row, if it does; one that was given ends it as a drawn one does."""
        said, steps = self.said[index], self.request.until is Until.STEP
        if token == END:
            return Finish.END
        if steps and (token == SEPARATOR or self._marked(said)):
            return Finish.STEP
        if len(said) >= self.request.rows[index].limit:
            return Finish.LENGTH
        return Finish.UNSURE if self._unsure(index) else None

    def _marked(self, said: Sequence[int]) -> bool:
        """Whether the newest token completes a mark."""
        text, newest = "".join(map(written, said)), len(written(said[-1]))
        return newest > 0 and any(mark in text[-(newest + len(mark) - 1) :] for mark in self.request.rules.marks)

    def _unsure(self, index: int) -> bool:
        rule = self.request.rules.unsure
        if rule is None or len(self.said[index]) < rule.window:
            return False
        step = self.step(index)
        trace = step.certainties if step.confidences is None else step.confidences
        return float(trace[-rule.window :].mean(dtype=np.float64)) < rule.below

    def _decided(self) -> bool:
        """Whether those that have ended by themselves stop the rest."""
        halt = self.request.rules.halt
        if halt is None:
            return False
        ended = [i for i, finish in enumerate(self.finish) if finish in (Finish.END, Finish.STEP)]
        ended.sort(key=lambda i: (len(self.said[i]), order(self.request.rows[i].path)))
        return halt.decide([self.step(i) for i in ended])

    def step(self, index: int) -> Step:
        """The row as it stands."""
        row, finish = self.request.rows[index], self.finish[index] or Finish.LENGTH
        step = step_of(self.said[index], row.seed, finish, self.request.sampling.confidence)
        if self.request.rules.pause is None:
            return step
        entropies = np.array(self.entropies[index][: len(step)], dtype=np.float32)
        return replace(step, entropies=entropies, ahead=self.ahead.get(index))

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
    siblings: Mapping[str, Language] = field(default_factory=lambda: {"small": smaller_language})  # by Extend.model

    def submit(self, search: int, request: Extend) -> None:
        if any(ticket.search == search for ticket in self.tickets):
            raise ValueError(f"search {search} has a request already")
        longest = max(len(row.prefix) for row in request.rows)
        if longest >= self.context:
            raise ValueError(f"the prompt has {longest} tokens and the model's context {self.context}")
        if request.model and request.model not in self.siblings:
            raise ValueError(f"there is no generator '{request.model}'")
        self.asked.append((search, request))
        self.tickets.append(Ticket.of(search, request, self.siblings[request.model] if request.model else self.language))

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
        steps = [ticket.step(i) for i in range(len(ticket.said))]
        written = sum(map(len, steps))
        self.spent[ticket.search] = self.spent.get(ticket.search, 0) + written
        small = written if ticket.request.model == "small" else 0
        return Extension(tuple(steps), prompt_tokens=len(ticket.request.rows[0].prefix), small_tokens=small)

    def forget(self, search: int) -> None:
        self.tickets = [ticket for ticket in self.tickets if ticket.search != search]

    @property
    def busy(self) -> bool:
        return bool(self.tickets)


def step_of(tokens: Sequence[int], seed: int = 0, finish: Finish = Finish.STEP, confidence: int = 0) -> Step:
    """A step with statistics that are a function of its tokens and the seed; `confidence` as in Sampling."""
    values = [noise(seed, i, token) for i, token in enumerate(tokens)]
    logprobs = np.array([math.log(max(value, 1e-6)) for value in values], dtype=np.float32)
    certainties = np.array([4 * value for value in values], dtype=np.float32)
    entropies = np.array([1 - value for value in values], dtype=np.float32)
    text = "".join(map(written, tokens))
    step = Step(np.array(tokens, dtype=np.int32), text, logprobs, certainties, entropies, finish)
    if not confidence:
        return step
    sure = [8 * noise(seed, i, token, confidence) for i, token in enumerate(tokens)]
    return replace(step, confidences=np.array(sure, dtype=np.float32))


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


# ------------------------------------------------------------------------------------------------------------- encoders


@dataclass
class FakeEncoder:
    """A vector from the first word of a trace's last step: steps that begin alike point the same way, others apart."""

    name: str = "fake-encoder"
    seen: list[Trace] = field(default_factory=list)

    def embed(self, traces: Sequence[Trace]) -> list[Embedding]:
        self.seen += traces
        return [Embedding(self._vector(trace), self.tokens(trace), 10.0 * self.tokens(trace)) for trace in traces]

    @staticmethod
    def tokens(trace: Trace) -> int:
        return sum(map(len, trace.steps))

    @staticmethod
    def _vector(trace: Trace) -> NDArray[np.float32]:
        first, *rest = trace.steps[-1].tokens.tolist()
        near = np.array([noise("near", token) for token in (first, *rest[:2])] + [0.0] * (2 - len(rest[:2])))
        far = np.array([noise("far", first, axis) - 0.5 for axis in range(8)])
        return np.concatenate([far, 0.1 * near]).astype(np.float32)
